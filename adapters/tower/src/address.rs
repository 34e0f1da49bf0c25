//! The client's address: the same walk as the service's, for checks that the application asks for itself.
//!
//! The leftmost entry of X-Forwarded-For is what the client wrote. It is believed only when every hop to its right is
//! a trusted proxy.

use crate::error::ConfigurationError;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// CIDR ranges as written. Bits outside a range are a mistake, as in the service.
pub(crate) fn networks<'a>(
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<IpNet>, ConfigurationError> {
    let network = |text: &'a String| {
        let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        read.filter(|network| network.addr() == network.network())
            .ok_or_else(|| ConfigurationError::Network(text.clone()))
    };
    texts.into_iter().map(network).collect()
}

/// An address with or without brackets and port. IPv4 in IPv6 is IPv4.
pub(crate) fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

/// `forwarded_for`: the values of the header, in order. `None`: the peer has no address, as on a unix socket.
pub(crate) fn client_address(
    peer: Option<IpAddr>,
    forwarded_for: &[String],
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let mut client = peer?.to_canonical();
    let entries: Vec<&str> = forwarded_for.iter().flat_map(|value| value.split(',')).collect();
    for entry in entries.into_iter().rev() {
        if !trusted.iter().any(|network| network.contains(&client)) {
            break;
        }
        let Some(following) = parse(entry) else { break };
        client = following;
    }
    Some(client)
}

/// What one subscriber holds: an IPv4 address, a /64 of IPv6.
#[cfg_attr(not(feature = "local"), allow(dead_code, reason = "limits in this process count by it"))]
pub(crate) fn partition(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{client_address, networks, parse, partition};

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> Option<String> {
        let forwarded: Vec<String> = forwarded.iter().map(|&value| value.to_owned()).collect();
        let trusted: Vec<String> = trusted.iter().map(|&value| value.to_owned()).collect();
        client_address(parse(peer), &forwarded, &networks(&trusted).unwrap())
            .map(|address| address.to_string())
    }

    #[test]
    fn walks_from_the_right_past_trusted_proxies_only() {
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a str);
        let proxies: &[&str] = &["10.0.0.0/8", "127.0.0.1"];
        let cases: [Case<'_>; 7] = [
            ("203.0.113.9", &["1.1.1.1"], proxies, "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], proxies, "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9, 10.0.0.2"], proxies, "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, nonsense"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], &[], "10.0.0.1"),
            ("127.0.0.1", &["[2001:db8::1]:443"], proxies, "2001:db8::1"),
            ("::ffff:10.0.0.1", &["203.0.113.9:1234"], proxies, "203.0.113.9"),
        ];
        for (peer, forwarded, trusted, expected) in cases {
            assert_eq!(client(peer, forwarded, trusted).as_deref(), Some(expected), "{peer} {forwarded:?}");
        }
        assert_eq!(client("", &["1.1.1.1"], proxies), None);
    }

    #[test]
    fn a_range_has_no_bits_outside() {
        assert!(networks(&["10.0.0.1/8".to_owned()]).is_err());
        assert!(networks(&["proxy".to_owned()]).is_err());
        assert!(networks(&["10.0.0.0/8".to_owned(), "::1".to_owned()]).is_ok());
    }

    #[test]
    fn a_subscriber_of_ipv6_is_a_64() {
        let of = |text| partition(parse(text).unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_eq!(of("203.0.113.9"), "203.0.113.9");
    }
}
