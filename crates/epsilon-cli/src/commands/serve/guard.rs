//! Middleware: metrics, security headers, the bearer token, and protection against requests of other sites.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State as Given};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::metrics::{Ended, Refused};
use super::refusal::Refusal;
use super::state::State;

/// Content security policy of the page: only what comes from this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Counts requests, refuses those of other sites, and sets security headers.
pub async fn count(
    Given(state): Given<Arc<State>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.map_or("none".to_string(), |path| path.as_str().to_string());
    let start = std::time::Instant::now();
    let mut response = match same_site(request.headers(), state.loopback) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let status = response.status().as_u16();
    state
        .metrics
        .requests
        .get_or_create(&Ended { route, status })
        .inc();
    state.metrics.seconds.observe(start.elapsed().as_secs_f64());
    if let Some(Refused { code }) = response.extensions().get() {
        state.metrics.refuse(code);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Requires the bearer token, if one is configured.
pub async fn token(
    Given(state): Given<Arc<State>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Some(token) = &state.token else {
        return Ok(next.run(request).await);
    };
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // Compared in constant time, so that timing does not reveal the token.
    match given.is_some_and(|given| given.ct_eq(token.as_bytes()).into()) {
        true => Ok(next.run(request).await),
        false => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "token",
            "this server wants a token: send `Authorization: Bearer TOKEN`",
        )),
    }
}

/// Refuses requests from pages of other sites: those whose origin is another host, and, if the server listens on a loopback
/// address, those whose host is not a loopback name (DNS rebinding).
fn same_site(headers: &HeaderMap, loopback: Option<IpAddr>) -> Result<(), Refusal> {
    let forbidden = |message: &str| Refusal::new(StatusCode::FORBIDDEN, "site", message);
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let host = text(HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        match port.bytes().all(|byte| byte.is_ascii_digit()) {
            true => name,
            false => host,
        }
    });
    let ours = |address: IpAddr| {
        let itself = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        name == itself || ["localhost", "127.0.0.1", "[::1]"].contains(&name)
    };
    if loopback.is_some_and(|address| !ours(address)) {
        return Err(forbidden(
            "this server answers to the names of this machine alone",
        ));
    }
    match text(ORIGIN) {
        Some(origin) if origin.split_once("://").map(|(_, host)| host) != Some(host) => {
            Err(forbidden("this server answers no pages of other sites"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_are_refused() {
        let check = |host: &str, origin: Option<&str>, loopback: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            let loopback = loopback.then_some(IpAddr::from([127, 0, 0, 2]));
            same_site(&headers, loopback).is_ok()
        };
        for host in [
            "localhost",
            "localhost:8090",
            "127.0.0.1:1",
            "[::1]:8090",
            "127.0.0.2:8090",
            "[::1]",
        ] {
            assert!(check(host, None, true), "{host}");
            assert!(check(host, Some(&format!("http://{host}")), true), "{host}");
            assert!(!check(host, Some("http://evil.example"), true), "{host}");
            assert!(!check(host, Some("null"), true), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8090",
            "localhost.evil.example",
            "",
        ] {
            assert!(!check(host, None, true), "{host}");
        }
        assert!(check(
            "photos.example:8090",
            Some("http://photos.example:8090"),
            false
        ));
        assert!(!check(
            "photos.example:8090",
            Some("http://evil.example"),
            false
        ));
    }
}
