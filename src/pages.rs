//! The two web pages, as `web/build.mjs` built them: the inbox for the client port, the console for the admin port.
//!
//! Promises: a page loads scripts and styles only from its own port, and connects only to it; no foreign page can frame it.
//! A browser fetches each file named by the html once, until the file changes. Leaves to others: HTTP.

use std::io::Write as _;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

/// The content security policy. A message's pictures and films come from wherever the sender stores them; everything else
/// comes from the page's own port. The client makes a worker from its own text, for a timer that keeps running in a hidden
/// page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data: blob: https: http:; media-src 'self' blob: https: http:; worker-src 'self' blob:; \
    manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The headers of every file.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (VARY, "accept-encoding"),
];
/// The caching rule for a request with the file's hash: this content never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The caching rule for all other requests: ask if the file is still the same.
const ASK_AGAIN: &str = "no-cache";
/// The file for a request without a name.
const INDEX: &str = "index.html";

/// The files of one page.
pub struct Page {
    files: Vec<File>,
}

struct File {
    name: &'static str,
    /// The beginning of the file's SHA-256, as the html names it.
    hash: String,
    plain: Bytes,
    gzip: Bytes,
}

/// Embeds files of `web/dist`.
macro_rules! page {
    ($page:literal, $($name:literal),+) => {
        Page { files: vec![$(File::new($name, include_bytes!(concat!("../web/dist/", $page, "/", $name)))),+] }
    };
}

impl Page {
    /// The page for users: `/` on the client port.
    pub fn inbox() -> Self {
        page!(
            "inbox",
            "index.html",
            "app.js",
            "app.css",
            "icon.svg",
            "manifest.webmanifest",
            "sw.js"
        )
    }

    /// The page for administrators: `/console/` on the admin port.
    pub fn console() -> Self {
        page!("console", "index.html", "app.js", "app.css", "icon.svg")
    }

    /// The answer to a `GET` of the file `name` (empty: the html), by its query and the request's headers; `None` if there
    /// is no such file.
    pub fn answer(
        &self,
        name: &str,
        query: Option<&str>,
        asked: &HeaderMap,
    ) -> Option<Response<Bytes>> {
        let name = if name.is_empty() { INDEX } else { name };
        let file = self.files.iter().find(|file| file.name == name)?;
        Some(file.answer(query, asked))
    }
}

impl File {
    fn new(name: &'static str, plain: &'static [u8]) -> Self {
        let digest = Sha256::digest(plain);
        let hash = digest[..8].iter().map(|byte| format!("{byte:02x}"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let gzip = gzip.write_all(plain).and_then(|()| gzip.finish());
        Self {
            name,
            hash: hash.collect(),
            plain: Bytes::from_static(plain),
            gzip: gzip.expect("a Vec takes everything").into(),
        }
    }

    fn answer(&self, query: Option<&str>, asked: &HeaderMap) -> Response<Bytes> {
        let lists = |name, item: &str| {
            let list = asked
                .get(name)
                .and_then(|list: &HeaderValue| list.to_str().ok());
            list.is_some_and(|list| list.split(',').any(|listed| listed.trim() == item))
        };
        // A weak tag, because both encodings share it.
        let etag = format!("W/\"{}\"", self.hash);
        let is_known = lists(IF_NONE_MATCH, &etag);
        let is_packed = lists(ACCEPT_ENCODING, "gzip");
        let body = match (is_known, is_packed) {
            (true, _) => Bytes::new(),
            (false, true) => self.gzip.clone(),
            (false, false) => self.plain.clone(),
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        let is_named_by_hash = query == Some(&self.hash);
        let caching = if is_named_by_hash {
            FOR_EVER
        } else {
            ASK_AGAIN
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        let etag = HeaderValue::from_str(&etag).expect("hex digits are good in a header");
        headers.insert(ETAG, etag);
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        if is_packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("webmanifest") => "application/manifest+json",
            _ => "application/octet-stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, path::Path};

    use flate2::read::GzDecoder;

    use super::*;

    fn pages() -> [(&'static str, Page); 2] {
        [("inbox", Page::inbox()), ("console", Page::console())]
    }

    fn asked(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn header(response: &Response<Bytes>, name: HeaderName) -> Option<&str> {
        Some(response.headers().get(name)?.to_str().unwrap())
    }

    #[test]
    fn every_file_that_was_built_is_embedded_and_has_a_type() {
        for (folder, page) in pages() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("web/dist")
                .join(folder);
            let entries = fs::read_dir(folder).unwrap();
            let mut built: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let mut embedded: Vec<_> = page.files.iter().map(|file| file.name).collect();
            built.sort_unstable();
            embedded.sort_unstable();
            assert_eq!(built, embedded);
            for file in page.files {
                assert!(
                    !file.content_type().ends_with("octet-stream"),
                    "{}",
                    file.name
                );
            }
        }
    }

    #[test]
    fn what_the_html_names_is_there_and_kept_for_ever() {
        for (_, page) in pages() {
            let html = page.answer("", None, &HeaderMap::new()).unwrap();
            assert_eq!(header(&html, CACHE_CONTROL), Some(ASK_AGAIN));
            let html = String::from_utf8(html.into_body().into()).unwrap();
            let named: Vec<_> = html
                .split('"')
                .filter_map(|value| value.split_once('?'))
                .collect();
            assert!(named.len() >= 3, "{html}");
            for (name, hash) in named {
                let answer = page.answer(name, Some(hash), &HeaderMap::new()).unwrap();
                assert_eq!(header(&answer, CACHE_CONTROL), Some(FOR_EVER), "{name}");
                let other = page.answer(name, Some("0"), &HeaderMap::new()).unwrap();
                assert_eq!(header(&other, CACHE_CONTROL), Some(ASK_AGAIN), "{name}");
            }
        }
    }

    #[test]
    fn the_policy_lets_no_script_or_style_in_but_the_pages_own() {
        let answer = Page::inbox().answer("", None, &HeaderMap::new()).unwrap();
        let policy = header(&answer, CONTENT_SECURITY_POLICY).unwrap();
        assert!(policy.contains("script-src 'self';") && policy.contains("style-src 'self';"));
        assert!(
            policy.contains("default-src 'none';") && policy.contains("frame-ancestors 'none'")
        );
        assert!(!policy.contains("unsafe"));
        assert_eq!(header(&answer, X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
    }

    #[test]
    fn gzip_is_the_same_file_in_less() {
        for file in Page::inbox().files {
            let answer = file.answer(None, &asked(ACCEPT_ENCODING, "br, gzip"));
            assert_eq!(header(&answer, CONTENT_ENCODING), Some("gzip"));
            let mut unpacked = Vec::new();
            GzDecoder::new(&answer.body()[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert_eq!(unpacked, file.plain);
            let plain = file.answer(None, &asked(ACCEPT_ENCODING, "br"));
            assert_eq!(
                (plain.body(), header(&plain, CONTENT_ENCODING)),
                (&file.plain, None)
            );
        }
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let page = Page::console();
        let first = page.answer("app.js", None, &HeaderMap::new()).unwrap();
        let etag = header(&first, ETAG).unwrap();
        let again = page
            .answer("app.js", None, &asked(IF_NONE_MATCH, etag))
            .unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(again.body().is_empty());
        let changed = page
            .answer("app.js", None, &asked(IF_NONE_MATCH, "W/\"0\""))
            .unwrap();
        assert_eq!(changed.status(), StatusCode::OK);
        assert!(
            page.answer("../inbox/app.js", None, &HeaderMap::new())
                .is_none()
        );
    }
}
