//! Which names of this server, and which other pages, a request may come by: protection against DNS rebinding and against
//! requests that other sites make in a browser.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode, Version};

use super::refusal::Refusal;

/// The names that requests may be addressed to.
pub(super) struct Hosts {
    /// Whether only these are answered; otherwise any name is.
    checked: bool,
    listen: IpAddr,
    /// In lower case, without port.
    allowed: Vec<String>,
}

/// A name of `--allow-host`: without scheme, port and path.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = name(text);
    let strange = |c: char| c.is_whitespace() || c.is_control() || "/@,*?#".contains(c);
    if name.is_empty()
        || name != text.to_ascii_lowercase().trim_end_matches('.')
        || name.contains(strange)
    {
        return Err("give a host name alone, such as photos.example".into());
    }
    Ok(name)
}

/// The name in `host` or `host:port`, in lower case, without the dot of a full name.
fn name(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// An address as it stands in a URL.
fn address(name: &str) -> Option<IpAddr> {
    match name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    }
}

impl Hosts {
    /// Names are checked on a loopback address, where nobody is asked for a token, and where names are given.
    pub(super) fn new(listen: SocketAddr, allowed: Vec<String>, token: bool) -> Self {
        Self {
            checked: listen.ip().is_loopback() || !token || !allowed.is_empty(),
            listen: listen.ip(),
            allowed,
        }
    }

    /// Refuses requests to other names, and those of pages of other sites.
    pub(super) fn check(&self, version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = self.host(version, headers)?;
        let forbidden = |message: &str| Refusal::new(StatusCode::FORBIDDEN, "site", message);
        if let Some(host) = host
            && self.checked
            && !self.is_ours(&name(host))
        {
            return Err(forbidden(
                "this server is not known under that name: --allow-host NAME makes it known",
            ));
        }
        match one(headers, ORIGIN)? {
            Some(origin) if !self.is_own_page(origin, host) => {
                Err(forbidden("this server answers no pages of other sites"))
            }
            _ => Ok(()),
        }
    }

    /// The host that is asked. Before HTTP/1.1, as some load balancers ask, none need be named; no browser leaves it out.
    fn host<'h>(
        &self,
        version: Version,
        headers: &'h HeaderMap,
    ) -> Result<Option<&'h str>, Refusal> {
        match one(headers, HOST)? {
            None if version > Version::HTTP_10 => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "host",
                "the request has no Host header",
            )),
            host => Ok(host),
        }
    }

    /// Whether a host, in lower case and without port, is one of this server's. An address can be no other site's, so where
    /// the server listens on all of them, each is its own.
    fn is_ours(&self, name: &str) -> bool {
        match address(name) {
            Some(address) => {
                self.listen.is_unspecified()
                    || address == self.listen
                    || (self.listen.is_loopback() && address.is_loopback())
                    || self.is_allowed(name)
            }
            None => (self.listen.is_loopback() && name == "localhost") || self.is_allowed(name),
        }
    }

    fn is_allowed(&self, name: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == name)
    }

    /// Whether a page of this origin comes from this server: under the host that it asks, or, behind a proxy that asks under
    /// another, under a name that was given.
    fn is_own_page(&self, origin: &str, host: Option<&str>) -> bool {
        let Some((_, site)) = origin.split_once("://") else {
            return false;
        };
        host.is_some_and(|host| host.eq_ignore_ascii_case(site)) || self.is_allowed(&name(site))
    }
}

/// The value of a header that stands once at most.
fn one(headers: &HeaderMap, header: HeaderName) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(&header).iter();
    let value = values.next().map(|value| value.to_str());
    match (value.transpose(), values.next()) {
        (Ok(value), None) => Ok(value),
        _ => {
            let message = format!("the request's {header} header makes no sense");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "host", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a server that listens on an address answers a request of this host and origin.
    fn answers(listen: &str, allowed: &[&str], token: bool, host: &str, origin: &str) -> bool {
        let allowed = allowed.iter().map(|name| host_name(name).unwrap());
        let hosts = Hosts::new(listen.parse().unwrap(), allowed.collect(), token);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if !origin.is_empty() {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        hosts.check(Version::HTTP_11, &headers).is_ok()
    }

    #[test]
    fn other_sites_are_refused() {
        let check = |host: &str, origin: &str| answers("127.0.0.2:8090", &[], true, host, origin);
        for host in [
            "localhost",
            "localhost:8090",
            "LOCALHOST",
            "localhost.",
            "Localhost.:8090",
            "127.0.0.1:1",
            "[::1]:8090",
            "127.0.0.2:8090",
            "[::1]",
        ] {
            assert!(check(host, ""), "{host}");
            assert!(check(host, &format!("http://{host}")), "{host}");
            assert!(!check(host, "http://evil.example"), "{host}");
            assert!(!check(host, "null"), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.1",
            "",
        ] {
            assert!(!check(host, ""), "{host}");
        }
    }

    #[test]
    fn a17_names_are_checked_off_loopback_too() {
        let all = |host: &str| answers("0.0.0.0:80", &[], false, host, "");
        assert!(
            all("192.168.1.5")
                && all("[fe80::1]:80")
                && !all("photos.example")
                && !all("localhost")
        );
        let one = |host: &str| answers("192.168.1.5:80", &["Photos.example."], false, host, "");
        assert!(one("192.168.1.5:80") && one("photos.example") && one("PHOTOS.example:81"));
        assert!(!one("192.168.1.6") && !one("evil.photos.example"));
        // A page that rebinds a name has no token.
        let token = |names: &[&str], host: &str| answers("0.0.0.0:80", names, true, host, "");
        assert!(token(&[], "photos.example") && !token(&["photos.example"], "other.example"));
        let page = |origin: &str| answers("0.0.0.0:80", &[], true, "photos.example:8090", origin);
        assert!(page("http://photos.example:8090") && !page("http://evil.example"));
    }

    #[test]
    fn s01_pages_behind_a_proxy_are_its_own() {
        let page = |host: &str, origin: &str| {
            answers("127.0.0.1:8090", &["photos.example"], false, host, origin)
        };
        for host in ["photos.example", "127.0.0.1:8090"] {
            assert!(page(host, "https://photos.example"), "{host}");
            assert!(!page(host, "https://evil.example"), "{host}");
            assert!(!page(host, "https://photos.example.evil.example"), "{host}");
        }
        for wrong in [
            "",
            "https://photos.example",
            "photos.example:80",
            "a b",
            "*.example",
            "x/y",
        ] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn s02_before_http_1_1_no_host_is_needed() {
        let hosts = Hosts::new("127.0.0.1:8090".parse().unwrap(), Vec::new(), false);
        let mut headers = HeaderMap::new();
        assert!(hosts.check(Version::HTTP_10, &headers).is_ok());
        assert!(hosts.check(Version::HTTP_11, &headers).is_err());
        headers.append(HOST, "localhost".parse().unwrap());
        assert!(hosts.check(Version::HTTP_11, &headers).is_ok());
        headers.append(HOST, "evil.example".parse().unwrap());
        assert!(hosts.check(Version::HTTP_11, &headers).is_err());
    }
}
