//! Middleware: metrics, security headers, the bearer token, the reserve of connections, and the budget of answers.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{MatchedPath, Request, State as Given};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use subtle::ConstantTimeEq;

use super::connections::Reserved;
use super::limits::{Budget, Held, SMALL_ANSWER};
use super::metrics::{Ended, Refused};
use super::refusal::{Refusal, failed};
use super::state::State;

/// Content security policy of the page: only what comes from this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Keeps pages of other sites from showing what this server answers, pictures above all.
const SAME_SITE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Routes that are answered on every connection.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// Counts requests, refuses those that may not come, and sets security headers.
pub(super) async fn count(
    Given(state): Given<Arc<State>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.map_or("none".to_string(), |path| path.as_str().to_string());
    let start = std::time::Instant::now();
    let reserved = request.extensions().get::<Reserved>().is_some();
    let response = match admitted(&state, &request, &route) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let mut response = match held(response, &state.answers).await {
        Ok(response) => response,
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
    headers.insert(SAME_SITE, HeaderValue::from_static("same-origin"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if reserved {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether a request may come here: to this name, from this page, over this connection.
fn admitted(state: &State, request: &Request, route: &str) -> Result<(), Refusal> {
    state.hosts.check(request.version(), request.headers())?;
    if request.extensions().get::<Reserved>().is_some() && !HEALTH.contains(&route) {
        let message = "as many connections as the server takes are open: try again";
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "connections",
            message,
        ));
    }
    Ok(())
}

/// An answer and its share of the budget, which is given back when the last byte is written.
struct Answer {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The response with its bytes counted, or a refusal in place of it where clients hold too many answers that they don't read.
async fn held(response: Response, answers: &Budget) -> Result<Response, Refusal> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.map_err(failed)?.to_bytes();
    if bytes.len() <= SMALL_ANSWER {
        return Ok(Response::from_parts(head, bytes.into()));
    }
    let full = || {
        let message = "as many answers as the server holds wait for their clients: try again";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "answers", message)
    };
    let held = answers.take(bytes.len()).ok_or_else(full)?;
    let answer = Bytes::from_owner(Answer { bytes, _held: held });
    Ok(Response::from_parts(head, answer.into()))
}

/// Requires the bearer token, if one is configured.
pub(super) async fn token(
    Given(state): Given<Arc<State>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Some(token) = &state.token else {
        return Ok(next.run(request).await);
    };
    // Compared in constant time, so that timing does not reveal the token.
    match bearer(request.headers()).is_some_and(|given| given.ct_eq(token.as_bytes()).into()) {
        true => Ok(next.run(request).await),
        false => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "token",
            "this server wants a token: send `Authorization: Bearer TOKEN`",
        )),
    }
}

/// The token that a request sends; the scheme's name is read in any case.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let given = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = given.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn a17_the_scheme_is_read_in_any_case() {
        let given = |value: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(<[u8]>::to_vec)
        };
        for value in ["Bearer secret", "bearer secret", "BEARER  secret "] {
            assert_eq!(given(value).unwrap(), b"secret", "{value}");
        }
        assert_eq!(given("Basic secret"), None);
        assert_eq!(given("bearer"), None);
    }

    #[tokio::test]
    async fn a04_an_answer_is_held_until_it_is_written() {
        let budget = Budget::new(8 << 10);
        let large = || Response::new(Body::from(vec![1; 5 << 10]));
        let first = held(large(), &budget).await.unwrap();
        assert!(held(large(), &budget).await.is_err());
        let small = Response::new(Body::from("well"));
        assert!(held(small, &budget).await.is_ok());
        // What hyper holds is the bytes, not the body.
        let bytes = first.into_body().collect().await.unwrap().to_bytes();
        assert!(held(large(), &budget).await.is_err());
        drop(bytes);
        assert!(held(large(), &budget).await.is_ok());
    }
}
