//! The gallery: test photographs with their best labels and the map of the best one, embedded in the page.

use std::fmt::Write as _;

use anyhow::Context;
use data_encoding::BASE64;
use epsilon::dataset::Split;
use epsilon::experiment::Prepared;
use epsilon::explain::{heat, overlay};
use epsilon::image::{Limits, RgbImage, open};
use epsilon::model::{Model, Ranked, Ranker};
use epsilon::tokens::TokenStore;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, thumbnail};

use super::page::escape;
use crate::console;

/// Longest side of an embedded picture, in pixels.
const SIDE: u32 = 192;
/// JPEG quality, 1 to 100.
const QUALITY: u8 = 70;
/// Number of labels listed per photograph.
const SHOWN: usize = 10;

/// The first `count` test photographs that have tokens as HTML, and the number that could not be opened.
pub(super) fn gallery(
    model: &Model,
    prepared: &Prepared,
    store: &TokenStore,
    limits: &Limits,
    count: usize,
) -> anyhow::Result<(String, usize)> {
    let device = epsilon::device::device("cpu")?;
    let ranker = Ranker::new(model, model.own_labels(), &device)?;
    let dataset = &prepared.dataset;
    let mut html = String::from("<ul class=\"gallery\">\n");
    let mut failed = 0;
    let bar = console::bar(count as u64, "gallery");
    let rows = dataset.rows(Split::Test).into_iter();
    let stored = rows.filter_map(|row| Some((row, store.row_of(&dataset.records[row].id)?)));
    for (row, stored) in stored.take(count) {
        let record = &dataset.records[row];
        let truth: Vec<&str> = dataset
            .labels
            .positives(row)
            .map(|label| dataset.names[label].as_str())
            .collect();
        match open(&record.path(), limits) {
            Ok(photo) => {
                let photo = small(&photo);
                html.push_str(&entry(
                    model, &ranker, store, stored, &photo, &record.id, &truth,
                )?);
            }
            Err(error) => {
                failed += 1;
                console::name_failure(error);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    html.push_str("</ul>");
    Ok((html, failed))
}

fn entry(
    model: &Model,
    ranker: &Ranker,
    store: &TokenStore,
    stored: usize,
    photo: &RgbImage,
    id: &str,
    truth: &[&str],
) -> anyhow::Result<String> {
    let mut tokens = vec![0.0; store.tokens_per_image() * store.dim()];
    let mut global = vec![0.0; store.global_dim()];
    store.read_tokens(stored, &mut tokens);
    store.read_global(stored, &mut global);
    let ranked = ranker.rank(1, tokens.clone(), global.clone());
    let ranked: Vec<Ranked> = ranked.into_iter().flatten().take(SHOWN).collect();
    let best = ranked.first().context("a model without labels")?;
    let names = ranker.labels().names();
    let place = names.iter().position(|name| *name == best.name);
    let maps = ranker.maps(tokens, global, place.unwrap_or_default());
    let mut html = format!(
        "<li><div class=\"pictures\">{}",
        picture(photo, &format!("{id}: {}", truth.join(", ")))?
    );
    if let Some(map) = maps.first() {
        let (width, height) = photo.dimensions();
        let heat = heat(map, &model.card().backbone().preprocess, width, height);
        let label = format!("{} for {}", map.what, best.name);
        html.push_str(&picture(&overlay(photo, &heat), &label)?);
    }
    let _ = write!(html, "</div><div class=\"id\">{}</div><ol>", escape(id));
    for label in &ranked {
        let hit = truth.contains(&label.name.as_str());
        let name = escape(&label.name);
        let name = if label.seen {
            name
        } else {
            format!("<span class=\"unseen\">{name}</span> (unseen)")
        };
        let name = if hit {
            format!("<span class=\"hit\">{name} \u{2713}</span>")
        } else {
            name
        };
        let value = match label.probability {
            Some(probability) => format!("{:.0} %", 100.0 * probability),
            None => format!("{:.2}", label.score),
        };
        let _ = write!(html, "<li>{name} {value}</li>");
    }
    html.push_str("</ol></li>\n");
    Ok(html)
}

fn small(photo: &RgbImage) -> RgbImage {
    let (width, height) = photo.dimensions();
    let longest = width.max(height).max(1);
    if longest <= SIDE {
        return photo.clone();
    }
    let side =
        |length: u32| (u64::from(length) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
    let (width, height) = (side(width), side(height));
    // A fast coarse reduction first: a good filter is slow on large photographs.
    let near = thumbnail(photo, 2 * width, 2 * height);
    image::imageops::resize(&near, width, height, FilterType::Triangle)
}

fn picture(picture: &RgbImage, words: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    let (width, height) = picture.dimensions();
    Ok(format!(
        "<img loading=\"lazy\" width=\"{width}\" height=\"{height}\" alt=\"{}\" src=\"data:image/jpeg;base64,{}\">",
        escape(words),
        BASE64.encode(&bytes)
    ))
}
