//! Parses requests: a multipart form, a picture as the whole body, or JSON.

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Query, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::limits::{Budget, Held, PHOTOS};
use super::refusal::Refusal;

/// The parameters of a request.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    #[serde(skip)]
    pub photos: Vec<Photo>,
    /// Labels, separated by commas or newlines.
    pub labels: Option<String>,
    pub top: Option<usize>,
    /// The label to explain.
    pub label: Option<String>,
    /// The body's share of the bytes that may be held.
    #[serde(skip)]
    pub held: Option<Held>,
}

/// An encoded photograph.
pub(super) struct Photo {
    pub name: String,
    pub bytes: Bytes,
}

impl Asked {
    /// Reads a multipart form, or a picture as the whole body.
    pub(super) async fn read(
        request: Request,
        max_body: usize,
        bodies: &Budget,
    ) -> Result<Self, Refusal> {
        let (request, held) = hold(request, max_body, bodies).await?;
        let mut asked = Self::parse(request, max_body).await?;
        asked.held = Some(held);
        match asked.photos.len() {
            0 => Err(Refusal::unusable(
                "photo",
                "no photograph: send at least one as `photo`",
            )),
            count if count > PHOTOS => {
                let message = format!("{count} photographs; this server takes {PHOTOS} at once");
                Err(Refusal::unusable("photos", message))
            }
            _ => Ok(asked),
        }
    }

    async fn parse(request: Request, max_body: usize) -> Result<Self, Refusal> {
        let kind = kind(&request);
        if kind == "multipart/form-data" {
            Self::form(request, max_body).await
        } else if kind.starts_with("image/") || kind == "application/octet-stream" {
            let query = Query::<Self>::try_from_uri(request.uri());
            let Query(mut asked) = query.map_err(|error| {
                Refusal::new(StatusCode::BAD_REQUEST, "query", error.body_text())
            })?;
            let bytes = Bytes::from_request(request, &()).await;
            let bytes =
                bytes.map_err(|error| body(error.status(), &error.body_text(), max_body))?;
            asked.photos.push(Photo {
                name: "photo".into(),
                bytes,
            });
            Ok(asked)
        } else {
            let message = "send a form (multipart/form-data) with `photo`, or a picture as image/jpeg, image/png and so on";
            Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "type",
                message,
            ))
        }
    }

    async fn form(request: Request, max_body: usize) -> Result<Self, Refusal> {
        // The whole body is read first: closing a connection with unread data would lose the reply.
        let (head, sent) = request.into_parts();
        let whole = Bytes::from_request(Request::from_parts(head.clone(), sent), &()).await;
        let whole = whole.map_err(|error| body(error.status(), &error.body_text(), max_body))?;
        let request = Request::from_parts(head, whole.into());
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|error| body(error.status(), &error.body_text(), max_body))?;
        let mut asked = Self::default();
        let broken = |error: axum::extract::multipart::MultipartError| {
            body(error.status(), &error.body_text(), max_body)
        };
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_string();
            if name == "photo" {
                let file = field.file_name().unwrap_or("photo").to_string();
                let bytes = field.bytes().await.map_err(broken)?;
                asked.photos.push(Photo { name: file, bytes });
                continue;
            }
            let text = field.text().await.map_err(broken)?;
            match name.as_str() {
                "labels" => asked.labels = Some(text),
                "label" => asked.label = Some(text),
                "top" => {
                    let top = text.trim().parse();
                    let wrong =
                        |_| Refusal::unusable("top", format!("top = {text:?}: give a number"));
                    asked.top = Some(top.map_err(wrong)?);
                }
                _ => {
                    let message = format!(
                        "the form has a part {name:?}; it may have photo, labels, label and top"
                    );
                    return Err(Refusal::unusable("form", message));
                }
            }
        }
        Ok(asked)
    }
}

/// Takes a body's share of the bytes that may be held, or refuses the request.
async fn hold(
    request: Request,
    max_body: usize,
    bodies: &Budget,
) -> Result<(Request, Held), Refusal> {
    let length = length(&request);
    if length.is_some_and(|length| length > max_body as u64) {
        discard(request, max_body).await;
        return Err(body(StatusCode::PAYLOAD_TOO_LARGE, "", max_body));
    }
    let bytes = length.and_then(|length| usize::try_from(length).ok());
    let Some(held) = bodies.take(bytes.unwrap_or(max_body)) else {
        discard(request, max_body).await;
        let message = "the server holds as many bytes of requests as it takes: try again";
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "bodies",
            message,
        ));
    };
    Ok((request, held))
}

/// Reads a request whose body is JSON, and says so: no form of another site can.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request,
    max_body: usize,
    bodies: &Budget,
) -> Result<T, Refusal> {
    let kind = kind(&request);
    let (request, _held) = hold(request, max_body, bodies).await?;
    let bytes = Bytes::from_request(request, &()).await;
    let bytes = bytes.map_err(|error| body(error.status(), &error.body_text(), max_body))?;
    if kind != "application/json" {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "type",
            "send JSON, with the content type application/json",
        ));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "body", error.to_string()))
}

/// The length that a request says its body has.
fn length(request: &Request) -> Option<u64> {
    let length = request.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// The type of a request's body in lower case, without parameters.
fn kind(request: &Request) -> String {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next();
    kind.unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads the body of a request that is refused to its end, unless it is far too large: a client that is still sending when
/// the connection is closed loses the reply.
pub(super) async fn discard(request: Request, max_body: usize) {
    let length = length(&request);
    let mut sent = request.into_body();
    while length.is_some_and(|length| length <= 4 * max_body as u64)
        && let Some(Ok(_)) = sent.frame().await
    {}
}

/// The error for a body that could not be read.
fn body(status: StatusCode, message: &str, max_body: usize) -> Refusal {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is larger than {} MB", max_body >> 20);
            Refusal::new(status, "body", message)
        }
        _ => Refusal::new(status, "body", message),
    }
}
