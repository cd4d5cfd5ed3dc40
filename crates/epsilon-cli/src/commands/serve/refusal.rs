//! Error replies: status, code and message.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::metrics::Refused;
use crate::console;

/// An error reply.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    pub code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// For a well-formed request that cannot be processed (status 422).
    pub(super) fn unusable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// Code and message as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        json!({"code": self.code, "message": self.message})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.json()}))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
            .extensions_mut()
            .insert(Refused { code: self.code });
        response
    }
}

/// An internal error of the server (status 500). What went wrong may name its files: that is for its log alone.
pub(super) fn failed(error: impl std::fmt::Display) -> Refusal {
    console::complain(format_args!("a request failed: {error}"));
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "server",
        "the server failed; its log says why",
    )
}
