//! Who may use the development server: this machine's own programs and its own page, nobody else's page.
//!
//! It listens on loopback only. A page from elsewhere could still reach it through a person's browser: such a request
//! carries a foreign `Origin`, or (DNS rebinding) a foreign `Host`, and is refused.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

/// Refuses what comes from a foreign page.
pub async fn own_page_only(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => (StatusCode::FORBIDDEN, why).into_response(),
    }
}

fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if !is_loopback(host) {
        return Err("this server answers to localhost only\n");
    }
    match text(header::ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        Some(_) => Err("a page of another origin may not use this server\n"),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::check;

    fn asked(host: &'static str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        check(&headers).is_ok()
    }

    #[test]
    fn the_own_page_and_programs_are_answered() {
        assert!(asked("127.0.0.1:7070", None));
        assert!(asked("localhost:7070", Some("http://localhost:7070")));
        assert!(asked("[::1]:7070", Some("http://[::1]:7070")));
    }

    #[test]
    fn another_page_and_a_rebound_name_are_refused() {
        assert!(!asked("127.0.0.1:7070", Some("http://evil.example")));
        assert!(!asked("127.0.0.1:7070", Some("http://127.0.0.1:8080")));
        assert!(!asked("127.0.0.1:7070", Some("null")));
        assert!(!asked("evil.example:7070", None));
        assert!(!asked("evil.example:7070", Some("http://evil.example:7070")));
        assert!(!asked("", None));
    }
}
