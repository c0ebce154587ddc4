//! Functions of IP addresses and networks in text columns.

use std::net::IpAddr;
use std::sync::LazyLock;

use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use ipnet::IpNet;

use super::functions::{register_text_function, truths};

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

pub(super) fn register(context: &SessionContext) {
    let class = |name, test: fn(IpAddr) -> bool| {
        register_text_function(context, name, 0, DataType::Boolean, move |texts, _| {
            truths(&texts, |text| address(text).is_some_and(test))
        });
    };
    class("is_ip", |_| true);
    class("is_ipv4", |address| address.is_ipv4());
    class("is_ipv6", |address| address.is_ipv6());
    class("is_private_ip", is_private);
    class("is_public_ip", is_public);
    register_text_function(context, "in_cidr", 1, DataType::Boolean, |texts, constants| {
        let network = constants.first().copied().unwrap_or_default();
        let network: IpNet =
            network.parse().map_err(|error| DataFusionError::Execution(format!("`{network}`: {error}")))?;
        truths(&texts, |text| overlaps(network, text))
    });
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn is_private(address: IpAddr) -> bool {
    static NETWORKS: LazyLock<(Vec<IpNet>, Vec<IpNet>)> = LazyLock::new(|| (networks(PRIVATE), networks(REACHABLE)));
    let address = address.to_canonical();
    let (private, reachable) = &*NETWORKS;
    let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
    within(private) && !within(reachable)
}

fn is_public(address: IpAddr) -> bool {
    static NETWORK: LazyLock<Vec<IpNet>> = LazyLock::new(|| networks(&[SHARED]));
    let shared = NETWORK.iter().any(|network| network.contains(&address.to_canonical()));
    !is_private(address) && !shared
}

/// Whether `text` is an address in `network`, or a network that shares addresses with it.
fn overlaps(network: IpNet, text: &str) -> bool {
    if let Some(address) = address(text) {
        return network.contains(&address) || network.contains(&address.to_canonical());
    }
    text.parse::<IpNet>().is_ok_and(|other| network.contains(&other) || other.contains(&network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_class() {
        let class = |text: &str| address(text).map(|address| (is_private(address), is_public(address)));
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
            networks(PRIVATE).len() + networks(REACHABLE).len() + networks(&[SHARED]).len(),
            PRIVATE.len() + REACHABLE.len() + 1
        );
    }

    #[test]
    fn networks_hold_addresses_and_overlap() {
        let ten: IpNet = "10.0.0.0/8".parse().unwrap();
        for inside in ["10.0.0.0", "10.255.255.255", "10.1.0.0/16", "0.0.0.0/0", "::ffff:10.0.0.1"] {
            assert!(overlaps(ten, inside), "{inside}");
        }
        for outside in ["11.0.0.0", "11.0.0.0/8", "::1", "", "x"] {
            assert!(!overlaps(ten, outside), "{outside}");
        }
    }
}
