//! Classes of IP addresses.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Networks that the registries of special-purpose addresses list as not globally reachable.
///
/// Sources: <https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
];
/// Parts of those networks that are globally reachable.
const REACHABLE: &[&str] = &[
    "192.0.0.9/32",
    "192.0.0.10/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
];
/// Shared between providers and their customers: neither private nor globally reachable.
const SHARED: &str = "100.64.0.0/10";

/// Classes of IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Any address.
    Address,
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// An address that the IANA registries list as not globally reachable.
    Private,
    /// A globally reachable address.
    Public,
}

impl Class {
    /// Returns whether `text` is an address of this class.
    pub fn contains(self, text: &str) -> bool {
        let Some(address) = address(text) else {
            return false;
        };
        match self {
            Class::Address => true,
            Class::V4 => address.is_ipv4(),
            Class::V6 => address.is_ipv6(),
            Class::Private => is_private(address),
            Class::Public => !is_private(address) && !is_shared(address),
        }
    }
}

/// Returns the address that `text` is, if it is one.
pub fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Returns the network of a `sourceIPAddress`: the /24 of an IPv4 address, the /48 of an IPv6 address. A text that is no
/// address, such as the name of a service, is its own network.
///
/// One user at one place often has several addresses in such a network.
pub fn source_network(text: &str) -> Cow<'_, str> {
    let network = match address(text).map(|address| address.to_canonical()) {
        None => return Cow::Borrowed(text),
        Some(IpAddr::V4(address)) => Ipv4Net::new(address, 24).map(IpNet::V4),
        Some(IpAddr::V6(address)) => Ipv6Net::new(address, 48).map(IpNet::V6),
    };
    network.map_or(Cow::Borrowed(text), |network| Cow::Owned(network.trunc().to_string()))
}

/// Some networks.
struct Networks {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Networks {
    fn new(texts: &[&str]) -> Networks {
        let parsed = || texts.iter().filter_map(|text| text.parse::<IpNet>().ok());
        let v4 = |network| if let IpNet::V4(network) = network { Some(network) } else { None };
        let v6 = |network| if let IpNet::V6(network) = network { Some(network) } else { None };
        Networks { v4: parsed().filter_map(v4).collect(), v6: parsed().filter_map(v6).collect() }
    }

    fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.iter().any(|network| network.contains(&address)),
            IpAddr::V6(address) => self.v6.iter().any(|network| network.contains(&address)),
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    static NETWORKS: LazyLock<[Networks; 2]> = LazyLock::new(|| [PRIVATE, REACHABLE].map(Networks::new));
    let [private, reachable] = &*NETWORKS;
    private.contain(address) && !reachable.contain(address)
}

fn is_shared(address: IpAddr) -> bool {
    static NETWORK: LazyLock<Networks> = LazyLock::new(|| Networks::new(&[SHARED]));
    NETWORK.contain(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_have_one_network() {
        for (text, network) in [
            ("198.51.100.7", "198.51.100.0/24"),
            ("::ffff:198.51.100.8", "198.51.100.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("2001:db8:2::3", "2001:db8:2::/48"),
            ("cloudtrail.amazonaws.com", "cloudtrail.amazonaws.com"),
            ("198.51.100.0/16", "198.51.100.0/16"),
            ("", ""),
        ] {
            assert_eq!(source_network(text), network);
        }
    }

    #[test]
    fn addresses_have_one_class() {
        let class = |text: &str| {
            Class::Address.contains(text).then(|| (Class::Private.contains(text), Class::Public.contains(text)))
        };
        for public in ["8.8.8.8", "192.0.0.9", "2606:4700::1111", "2001:20::1", "224.0.0.1", "::ffff:8.8.8.8"] {
            assert_eq!(class(public), Some((false, true)), "{public}");
        }
        for private in ["10.1.2.3", "172.31.0.1", "127.0.0.1", "192.0.2.1", "fe80::1", "2001:db8::1", "::ffff:10.0.0.1"]
        {
            assert_eq!(class(private), Some((true, false)), "{private}");
        }
        assert_eq!(class("100.64.0.1"), Some((false, false)));
        for none in ["", "10.0.0", "AWS Internal", "s3.amazonaws.com", "10.0.0.0/8", " 10.0.0.1", "010.0.0.1"] {
            assert_eq!(class(none), None, "{none}");
        }
        assert_eq!(
            [PRIVATE, REACHABLE, &[SHARED]]
                .map(Networks::new)
                .iter()
                .map(|of| of.v4.len() + of.v6.len())
                .sum::<usize>(),
            PRIVATE.len() + REACHABLE.len() + 1
        );
    }

    #[test]
    fn an_address_has_one_version() {
        let versions = |text: &str| (Class::V4.contains(text), Class::V6.contains(text));
        assert_eq!(versions("192.0.2.1"), (true, false));
        assert_eq!(versions("2001:db8::1"), (false, true));
        assert_eq!(versions("::ffff:192.0.2.1"), (false, true));
        assert_eq!(versions("192.0.2"), (false, false));
    }
}
