//! Client addresses: CIDR ranges, how an address is cut before it counts, and which address of
//! `X-Forwarded-For` to believe.
//!
//! An IPv4-mapped IPv6 address is the IPv4 address. The list of forwarders is walked from the right, past
//! trusted proxies only; the leftmost entry is whatever the client wrote and is never taken on its word.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// How many leading bits of an address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPrefix {
    /// Of 32.
    pub v4: u8,
    /// Of 128.
    pub v6: u8,
}

impl Default for IpPrefix {
    /// Whole IPv4 addresses; IPv6 by /64, the least that one subscriber holds.
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

/// Where the client's address is in a request from Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientIp {
    /// The peer that Envoy saw.
    #[default]
    Peer,
    /// A key of the metadata that Envoy's configuration adds to its calls.
    Metadata(String),
    /// A header, by its lower-case name.
    Header(String),
    /// The address of `X-Forwarded-For` that many places from the right, as Envoy counts its trusted hops.
    Forwarded(u32),
}

/// What one request from Envoy says about its client.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The peer that Envoy saw, if it has an address.
    pub peer: Option<IpAddr>,
    /// (key, value) of the call.
    pub metadata: &'a [(&'a str, &'a str)],
    /// (name, value) of the request.
    pub headers: &'a [(&'a str, &'a str)],
}

impl fmt::Debug for Seen<'_> {
    /// Without headers and metadata: each may hold a secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Seen").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl ClientIp {
    /// The address in this place. None: this place is the peer, or what stands there is not one address; then the peer
    /// is the client.
    #[must_use]
    pub fn find(&self, seen: &Seen<'_>) -> Option<IpAddr> {
        match self {
            Self::Peer => None,
            Self::Metadata(key) => one_address(seen.metadata, key),
            Self::Header(name) => one_address(seen.headers, name),
            Self::Forwarded(hops) => forwarded(seen, *hops),
        }
    }
}

/// Of one pair that holds one address. Of two, one may be the client's own word.
fn one_address(pairs: &[(&str, &str)], name: &str) -> Option<IpAddr> {
    let mut named = pairs.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    match (named.next(), named.next()) {
        (Some((_, value)), None) => parse_ip_and_port(value.trim()),
        _ => None,
    }
}

/// With `use_remote_address` Envoy has put its own peer at the end, and does not count it; nor is it counted here.
fn forwarded(seen: &Seen<'_>, hops: u32) -> Option<IpAddr> {
    let named = seen.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
    let entries: Vec<&str> = named.flat_map(|(_, value)| value.split(',')).map(str::trim).collect();
    let counted = match entries.split_last() {
        Some((last, before)) if seen.peer.is_some() && parse_ip_and_port(last) == seen.peer => before,
        _ => &entries,
    };
    let at = counted.len().checked_sub(usize::try_from(hops).ok()?)?;
    parse_ip_and_port(counted.get(at)?)
}

/// Parses an address as the wire has it: with or without brackets, IPv4-mapped taken as IPv4. A zone is refused.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    IpAddr::from_str(bare).ok().map(|ip| ip.to_canonical())
}

/// Parses an address that may carry a port, as peers and forwarders are written.
#[must_use]
pub fn parse_ip_and_port(text: &str) -> Option<IpAddr> {
    parse_ip(text).or_else(|| {
        let (host, port) = text.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        parse_ip(host)
    })
}

impl IpPrefix {
    /// The canonical text of the network that `ip` counts for: `203.0.113.7`, `2001:db8:1:2::/64`.
    #[must_use]
    pub fn cut(&self, ip: IpAddr) -> String {
        let (bits, whole) = match ip {
            IpAddr::V4(_) => (self.v4, 32),
            IpAddr::V6(_) => (self.v6, 128),
        };
        let mut text = mask(ip, bits).to_string();
        if bits < whole {
            // Writing to a String cannot fail.
            let _ = write!(text, "/{bits}");
        }
        text
    }
}

impl Cidr {
    /// Whether `ip` is in the range.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.network.is_ipv4() == ip.is_ipv4() && mask(ip, self.bits) == self.network
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// `10.0.0.0/8`, `2001:db8::/32`, or one address. Bits outside the range are refused: they are a slip.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network = IpAddr::from_str(address).map_err(|_| format!("`{address}` is not an address"))?;
        let whole = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => whole,
            Some(bits) => bits
                .parse::<u8>()
                .ok()
                .filter(|bits| *bits <= whole)
                .ok_or_else(|| format!("`/{bits}` is not a prefix length of 0 to {whole}"))?,
        };
        let (network, bits) = match (network.to_canonical(), bits) {
            (v4 @ IpAddr::V4(_), bits) if network.is_ipv6() => match bits.checked_sub(96) {
                Some(bits) => (v4, bits),
                None => return Err(format!("`{text}` mixes IPv4 and IPv6; write it as an IPv4 range")),
            },
            canonical => canonical,
        };
        if mask(network, bits) != network {
            return Err(format!("`{text}` has bits outside its range; write {}/{bits}", mask(network, bits)));
        }
        Ok(Self { network, bits })
    }
}

/// The client's address: the direct peer, or, while that is a trusted proxy, the next forwarder from the right.
///
/// A forwarder that is no address ends the walk at the last address that was believed.
#[must_use]
pub fn client_ip<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[Cidr],
) -> IpAddr {
    let mut client = peer.to_canonical();
    for entry in forwarded_for.rev() {
        if !trusted.iter().any(|cidr| cidr.contains(client)) {
            break;
        }
        match parse_ip_and_port(entry.trim()) {
            Some(ip) => client = ip,
            None => break,
        }
    }
    client
}

fn mask(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let kept = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(bits))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & kept))
        }
        IpAddr::V6(v6) => {
            let kept = u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(bits))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & kept))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        parse_ip(text).unwrap()
    }

    #[test]
    fn ipv6_counts_by_64_and_mapped_ipv4_is_ipv4() {
        let prefix = IpPrefix::default();
        assert_eq!(prefix.cut(ip("2001:db8:1:2:3:4:5:6")), "2001:db8:1:2::/64");
        assert_eq!(prefix.cut(ip("::ffff:203.0.113.7")), "203.0.113.7");
        assert_eq!(IpPrefix { v4: 24, v6: 48 }.cut(ip("203.0.113.7")), "203.0.113.0/24");
        assert_eq!(parse_ip("fe80::1%eth0"), None);
        assert_eq!(parse_ip_and_port("[2001:db8::1]:443"), Some(ip("2001:db8::1")));
        assert_eq!(parse_ip_and_port("203.0.113.7:443"), Some(ip("203.0.113.7")));
    }

    #[test]
    fn ranges_hold_their_own_family_and_refuse_stray_bits() {
        let ten: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(ten.contains(ip("10.255.0.1")));
        assert!(!ten.contains(ip("11.0.0.1")));
        assert!(!"0.0.0.0/0".parse::<Cidr>().unwrap().contains(ip("::1")));
        assert_eq!("::ffff:10.0.0.0/104".parse::<Cidr>().unwrap(), ten);
        assert!("::ffff:0.0.0.0/90".parse::<Cidr>().is_err());
        assert!("10.0.0.1/8".parse::<Cidr>().unwrap_err().contains("10.0.0.0/8"));
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
    }

    #[test]
    fn envoys_word_on_the_client_is_taken_from_its_place_only() {
        let peer = Some(ip("10.0.0.1"));
        let find = |place: ClientIp, metadata: &[(&str, &str)], headers: &[(&str, &str)]| {
            place.find(&Seen { peer, metadata, headers })
        };
        let (key, name) =
            (|| ClientIp::Metadata("x-client-ip".to_owned()), || ClientIp::Header("x-real".to_owned()));
        let (one, two) = (("x-client-ip", "1.2.3.4"), ("x-client-ip", "5.6.7.8"));
        assert_eq!(find(key(), &[one], &[]), Some(ip("1.2.3.4")));
        assert_eq!(find(key(), &[], &[one]), None, "a client's header is not the call's metadata");
        assert_eq!(find(key(), &[one, two], &[]), None);
        assert_eq!(find(key(), &[("x-client-ip", "")], &[]), None);
        assert_eq!(find(name(), &[], &[("X-Real", "[2001:db8::1]:80")]), Some(ip("2001:db8::1")));
        assert_eq!(
            find(name(), &[], &[("x-real", "1.2.3.4,5.6.7.8")]),
            None,
            "two headers that Envoy joined"
        );
        assert_eq!(find(ClientIp::Peer, &[one], &[one]), None);
    }

    #[test]
    fn forwarders_are_counted_as_envoy_counts_its_trusted_hops() {
        let find = |peer: &str, xff: &str, hops: u32| {
            let headers = [("x-forwarded-for", xff)];
            ClientIp::Forwarded(hops).find(&Seen { peer: parse_ip(peer), metadata: &[], headers: &headers })
        };
        let client = |text: &str| Some(ip(text));
        for xff in ["1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8, 10.0.0.1"] {
            assert_eq!(find("10.0.0.1", xff, 1), client("5.6.7.8"), "{xff}");
            assert_eq!(find("10.0.0.1", xff, 2), client("1.2.3.4"), "{xff}");
            assert_eq!(find("10.0.0.1", xff, 3), None, "{xff}");
        }
        for garbage in ["", "garbage", "1.2.3.4, garbage", "1.2.3.4,", "10.0.0.1"] {
            assert_eq!(find("10.0.0.1", garbage, 1), None, "{garbage}");
        }
        assert_eq!(find("10.0.0.1", "garbage, 5.6.7.8", 1), client("5.6.7.8"));
        assert_eq!(find("", "1.2.3.4, 5.6.7.8", 1), client("5.6.7.8"), "a peer without an address");
        let two = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8")];
        let seen = Seen { peer: None, metadata: &[], headers: &two };
        assert_eq!(ClientIp::Forwarded(2).find(&seen), client("1.2.3.4"));
    }

    #[test]
    fn walks_forwarders_from_the_right_past_trusted_proxies_only() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let walk = |peer: &str, xff: &str| client_ip(ip(peer), xff.split(','), &trusted);
        assert_eq!(walk("198.51.100.1", "1.2.3.4"), ip("198.51.100.1"), "an untrusted peer is the client");
        assert_eq!(walk("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2"), ip("1.2.3.4"));
        assert_eq!(walk("10.0.0.1", "garbage"), ip("10.0.0.1"));
        assert_eq!(walk("10.0.0.1", "1.2.3.4, garbage, 10.0.0.9"), ip("10.0.0.9"));
    }
}
