//! The five programs of `examples/` run on drawn pictures.

#![expect(
    dead_code,
    reason = "the programs' main functions are not what is called here"
)]

#[path = "../examples/evaluate_scores.rs"]
mod evaluate_scores;
#[path = "../examples/extract_tokens.rs"]
mod extract_tokens;
#[path = "../examples/rank_photo.rs"]
mod rank_photo;
#[path = "../examples/tag_folder.rs"]
mod tag_folder;
#[path = "../examples/train_recipe.rs"]
mod train_recipe;

include!("common/drawn.rs");

type Tested = Result<(), Box<dyn std::error::Error>>;

#[test]
fn a_photo_is_ranked_and_a_folder_tagged() -> Tested {
    let folder = drawn_model("epsilon")?;
    let at = |name: &str| folder.path().join(name);
    let words = ["striped circle", "plain circle"].map(String::from);
    let photo = at("data/test/000000.png");
    let ranking = rank_photo::rank(&at("model.safetensors"), &photo, &words)?;
    assert_eq!(ranking.len(), 2);
    assert!(ranking[0].score >= ranking[1].score);

    std::fs::write(at("data/test/broken.png"), "no picture")?;
    let report = tag_folder::tag(&at("model.safetensors"), &at("data/test"))?;
    assert_eq!((report.tagged, report.failed), (8, 1));
    assert!(at("data/test/.epsilon/library.json").exists());
    Ok(())
}

#[test]
fn a_recipe_is_trained_and_measured() -> Tested {
    let folder = drawn_recipe("ridge")?;
    let run = folder.path().join("run");
    let figures = train_recipe::train(&folder.path().join("recipe.toml"), &run)?;
    assert_eq!(figures.parts().count(), 3);
    assert!(run.join("seed-1/model.safetensors").exists());
    Ok(())
}

#[test]
fn tokens_are_extracted() -> Tested {
    let folder = drawn_recipe("ridge")?;
    let at = |name: &str| folder.path().join(name);
    let (weights, store) = (at("backbone.safetensors"), at("store"));
    let store = extract_tokens::extract(&weights, &at("data/test"), &store)?;
    assert!((0..8).all(|n| store.row_of(&format!("{n:06}.png")).is_some()));
    Ok(())
}

/// The unseen label ranks its one positive first; of the seen one, the positive stands second.
#[test]
fn scores_of_others_are_evaluated() -> Tested {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("s.csv"), "image,cat,dog\na,0.9,0.1\nb,0.8,0.7\n")?;
    std::fs::write(at("l.csv"), "image,cat,dog\na,-1,-1\nb,1,1\n")?;
    let figures = evaluate_scores::evaluate(&at("s.csv"), &at("l.csv"), 1, "epsilon")?;
    assert_eq!((figures.zsl.map, figures.seen.images_total), (1.0, 2));
    Ok(())
}
