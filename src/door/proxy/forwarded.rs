//! The headers in which a proxy names the client of a request: `X-Forwarded-For`, and `Forwarded` of RFC 7239.
//!
//! Each proxy adds the address from which it got the request, on the right. Everything left of the first address that is no proxy's is the
//! client's own word.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header::FORWARDED};

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The right-most address that is not a proxy's. A name that is no address ends the search at the proxy that gave it. `hop` is the
/// proxy from which the request came. The client may have sent the header that this proxy does not set, so two headers that disagree
/// count for nothing: the proxy itself stands for its client.
pub(super) fn client(
    hop: IpAddr,
    headers: &HeaderMap,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let by_list = addresses(headers, X_FORWARDED_FOR, read_plain);
    let by_pairs = addresses(headers, FORWARDED.as_str(), read_pairs);
    match (by_list.is_empty(), by_pairs.is_empty()) {
        (true, true) => hop,
        (false, true) => right_most(hop, &by_list, is_proxy),
        (true, false) => right_most(hop, &by_pairs, is_proxy),
        (false, false) => {
            let client = right_most(hop, &by_list, &is_proxy);
            if client == right_most(hop, &by_pairs, &is_proxy) {
                client
            } else {
                hop
            }
        }
    }
}

/// The elements of all headers of this name, from left to right; `None` for an element that names no address.
fn addresses(
    headers: &HeaderMap,
    name: &str,
    read: impl Fn(&str) -> Option<IpAddr>,
) -> Vec<Option<IpAddr>> {
    let values = headers.get_all(name).iter();
    // Bytes that are no text name nobody.
    let texts = values.map(|value| value.to_str().unwrap_or("-"));
    texts.flat_map(|text| text.split(',').map(&read)).collect()
}

fn right_most(
    hop: IpAddr,
    addresses: &[Option<IpAddr>],
    is_proxy: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = hop;
    for address in addresses.iter().rev() {
        let Some(address) = *address else {
            break;
        };
        client = address;
        if !is_proxy(address) {
            break;
        }
    }
    client
}

/// An address, which may have a port.
fn read_plain(element: &str) -> Option<IpAddr> {
    let element = element.trim();
    let ip = element.parse().ok();
    let ip = ip.or_else(|| Some(element.parse::<SocketAddr>().ok()?.ip()));
    ip.or_else(|| element.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// The address behind `for=` in pairs such as `for="[2001:db8::7]:4711";proto=https`.
fn read_pairs(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = named.next()?;
    read_plain(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    /// The client behind 10.0.0.1, where 10.x.x.x are proxies, of a request with these headers.
    fn client_of(headers: &[(&str, &str)]) -> String {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let is_proxy = |ip: IpAddr| ip.to_string().starts_with("10.");
        client("10.0.0.1".parse().unwrap(), &headers, is_proxy).to_string()
    }

    #[test]
    fn the_right_most_address_that_is_no_proxys_counts() {
        for (value, client) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7, 10.0.0.2", "192.0.2.7"),
            // The client's own word stands on the left.
            ("203.0.113.1, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            // Only proxies: the first of them is the client.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            // A proxy that does not say for whom it speaks stands for its client.
            ("192.0.2.7, unknown", "10.0.0.1"),
            ("192.0.2.7, unknown, 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
            ("192.0.2.7,", "10.0.0.1"),
            ("<script>", "10.0.0.1"),
        ] {
            assert_eq!(client_of(&[("x-forwarded-for", value)]), client, "{value}");
        }
        let twice = [
            ("x-forwarded-for", "203.0.113.1"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        assert_eq!(client_of(&twice), "192.0.2.7");
        assert_eq!(client_of(&[]), "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (value, client) in [
            ("for=192.0.2.7", "192.0.2.7"),
            (
                "For=\"[2001:db8::7]:4711\";proto=https;by=10.0.0.1",
                "2001:db8::7",
            ),
            ("proto=https; for=192.0.2.7", "192.0.2.7"),
            (
                "for=203.0.113.1, for=192.0.2.7;host=a, for=10.0.0.2",
                "192.0.2.7",
            ),
            ("for=192.0.2.7, for=_hidden", "10.0.0.1"),
            ("for=192.0.2.7, proto=https", "10.0.0.1"),
        ] {
            assert_eq!(client_of(&[("forwarded", value)]), client, "{value}");
        }
    }

    #[test]
    fn headers_that_disagree_count_for_nothing() {
        let listed = ("x-forwarded-for", "192.0.2.7");
        assert_eq!(
            client_of(&[listed, ("forwarded", "for=192.0.2.7")]),
            "192.0.2.7"
        );
        assert_eq!(
            client_of(&[listed, ("forwarded", "for=203.0.113.1")]),
            "10.0.0.1"
        );
        assert_eq!(
            client_of(&[listed, ("forwarded", "for=unknown")]),
            "10.0.0.1"
        );
    }
}
