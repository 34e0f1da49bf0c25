//! Client addresses: CIDR ranges, how an address is cut before it counts, and which address of
//! `X-Forwarded-For` to believe.
//!
//! An IPv4-mapped IPv6 address is the IPv4 address. The list of forwarders is walked from the right, past
//! trusted proxies only; the leftmost entry is whatever the client wrote and is never taken on its word.

use std::fmt::Write as _;
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
    fn walks_forwarders_from_the_right_past_trusted_proxies_only() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let walk = |peer: &str, xff: &str| client_ip(ip(peer), xff.split(','), &trusted);
        assert_eq!(walk("198.51.100.1", "1.2.3.4"), ip("198.51.100.1"), "an untrusted peer is the client");
        assert_eq!(walk("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2"), ip("1.2.3.4"));
        assert_eq!(walk("10.0.0.1", "garbage"), ip("10.0.0.1"));
        assert_eq!(walk("10.0.0.1", "1.2.3.4, garbage, 10.0.0.9"), ip("10.0.0.9"));
    }
}
