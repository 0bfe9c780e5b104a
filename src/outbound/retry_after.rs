//! The time for which a server wants to be left alone.

use std::time::{Duration, SystemTime};

use hyper::{
    HeaderMap,
    header::{DATE, HeaderName, RETRY_AFTER},
};

/// The longest time that is waited for because a server asks for it. A server that meant more says so again then.
pub const ASKED_WAIT_MAX: Duration = Duration::from_secs(3600);

/// The wait that an answer asks for, at most [`ASKED_WAIT_MAX`]; `None` if the answer asks for none, or in no known form.
/// Source: RFC 9110 section 10.2.3. A date is compared with the date of the answer, so that the clocks of both sides may
/// differ.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // A number that no integer holds is a long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        until
            .duration_since(time_in(headers, DATE)?)
            .unwrap_or_default()
    };
    Some(wait.min(ASKED_WAIT_MAX))
}

fn time_in(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn read(wait: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(wait).unwrap());
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn a_wait_is_a_number_of_seconds_or_a_date_after_that_of_the_answer() {
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(read("120", None), Some(Duration::from_secs(120)));
        assert_eq!(read(" 0 ", None), Some(Duration::ZERO));
        let later = "Wed, 21 Oct 2026 07:30:05 GMT";
        assert_eq!(read(later, date), Some(Duration::from_secs(125)));
        let earlier = "Wed, 21 Oct 2026 07:00:00 GMT";
        assert_eq!(read(earlier, date), Some(Duration::ZERO));
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn a_wait_is_bounded_by_asked_wait_max() {
        let long = ["3601", "99999999999999999999999999", "18446744073709551615"];
        for text in long {
            assert_eq!(read(text, None), Some(ASKED_WAIT_MAX), "{text}");
        }
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        let year = "Thu, 21 Oct 2027 07:28:00 GMT";
        assert_eq!(read(year, date), Some(ASKED_WAIT_MAX));
    }

    #[test]
    fn a_wait_in_no_known_form_is_none() {
        for text in ["", "-1", "1.5", "soon", "+5", "5 s", "Wed, 21 Oct"] {
            assert_eq!(
                read(text, Some("Wed, 21 Oct 2026 07:28:00 GMT")),
                None,
                "{text:?}"
            );
        }
        assert_eq!(read("Wed, 21 Oct 2026 07:28:00 GMT", None), None);
    }
}
