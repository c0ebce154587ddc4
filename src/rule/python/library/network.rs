//! Python's `ipaddress`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::exception::{ExceptionKind, Fault, Outcome};
use super::super::text_format;
use super::super::value::Value;

/// The ranges that the IANA registries list as not global, as Python 3.11 has them.
const PRIVATE_V4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/29",
    "192.0.0.170/31",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
];
const PRIVATE_V6: &[&str] = &[
    "::1/128",
    "::/128",
    "::ffff:0:0/96",
    "100::/64",
    "2001::/23",
    "2001:2::/48",
    "2001:db8::/32",
    "2001:10::/28",
    "fc00::/7",
    "fe80::/10",
];
/// Carrier-grade NAT: neither private nor global.
const SHARED_V4: &str = "100.64.0.0/10";

fn is_in(address: IpAddr, ranges: &[&str]) -> bool {
    ranges.iter().any(|range| range.parse::<IpNet>().is_ok_and(|range| range.contains(&address)))
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => is_in(address, PRIVATE_V4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(IpAddr::V4(v4)),
            None => is_in(address, PRIVATE_V6),
        },
    }
}

/// Returns an attribute of an address.
pub(in super::super) fn attribute(address: IpAddr, name: &str) -> Option<Value> {
    let flag = match name {
        "version" => return Some(Value::Int(if address.is_ipv4() { 4 } else { 6 })),
        "is_private" => is_private(address),
        "is_global" => !is_private(address) && !is_in(address, &[SHARED_V4]),
        "is_loopback" => address.is_loopback(),
        "is_multicast" => address.is_multicast(),
        "is_unspecified" => address.is_unspecified(),
        "is_link_local" => is_in(address, &["169.254.0.0/16", "fe80::/10"]),
        "is_reserved" => is_in(address, &["240.0.0.0/4"]),
        _ => return None,
    };
    Some(Value::Bool(flag))
}

/// Calls a function or class of `ipaddress`.
/// Unless it `is_strict`, a network may have bits beyond its length.
pub(in super::super) fn call(name: &str, argument: &Value, is_strict: bool) -> Outcome<Value> {
    let shown = || text_format::repr(argument);
    let address_error = |message: String| Err(Fault::raise(ExceptionKind::AddressValueError, message));
    let value_error =
        |what: &str| Err(Fault::value_error(format!("{} does not appear to be an IPv4 or IPv6 {what}", shown())));
    let Value::Text(text) = argument else {
        return match (name, argument) {
            ("ipaddress.ip_address", Value::Address(_)) | ("ipaddress.ip_network", Value::Network(_)) => {
                Ok(argument.clone())
            }
            ("ipaddress.ip_network", Value::Address(address)) => Ok(Value::Network(IpNet::from(*address))),
            (_, Value::Int(_) | Value::Bool(_) | Value::Bytes(_)) => from_number(name, argument),
            ("ipaddress.ip_address", _) => value_error("address"),
            ("ipaddress.ip_network", _) => value_error("network"),
            _ => address_error(format!("Expected 4 octets in {}", shown())),
        };
    };
    let v4 = || text.parse::<Ipv4Addr>().ok();
    let v6 = || {
        let (plain, scope) = text.split_once('%').unwrap_or((text, "-"));
        plain.parse::<Ipv6Addr>().ok().filter(|_| !scope.is_empty() && !scope.contains('%'))
    };
    match name {
        "ipaddress.IPv4Address" => match v4() {
            Some(address) => Ok(Value::Address(address.into())),
            None => address_error(format!("Expected 4 octets in {}", shown())),
        },
        "ipaddress.IPv6Address" => match v6() {
            Some(address) => Ok(Value::Address(address.into())),
            None => address_error(format!("At least 3 parts expected in {}", shown())),
        },
        "ipaddress.ip_address" => match v4().map(IpAddr::from).or_else(|| v6().map(IpAddr::from)) {
            Some(address) => Ok(Value::Address(address)),
            None => value_error("address"),
        },
        _ => match network(text, is_strict) {
            Some(network) if name == "ipaddress.IPv4Network" && network.network().is_ipv6() => value_error("network"),
            Some(network) if name == "ipaddress.IPv6Network" && network.network().is_ipv4() => value_error("network"),
            Some(network) => Ok(Value::Network(network)),
            None => value_error("network"),
        },
    }
}

/// An address that is given as a number.
fn from_number(name: &str, argument: &Value) -> Outcome<Value> {
    let number = match argument.as_int() {
        Some(number) if name != "ipaddress.ip_network" => number,
        _ => return Err(Fault::Refused(format!("`{name}` of a {}", argument.type_name()))),
    };
    let v4 = || u32::try_from(number).ok().map(|bits| IpAddr::from(Ipv4Addr::from(bits)));
    let v6 = || u128::try_from(number).ok().map(|bits| IpAddr::from(Ipv6Addr::from(bits)));
    let (address, kind) = match name {
        "ipaddress.IPv4Address" => (v4(), ExceptionKind::AddressValueError),
        "ipaddress.IPv6Address" => (v6(), ExceptionKind::AddressValueError),
        _ => (v4().or_else(v6), ExceptionKind::ValueError),
    };
    match address {
        Some(address) => Ok(Value::Address(address)),
        None => Err(Fault::raise(kind, format!("{number} does not appear to be an IPv4 or IPv6 address"))),
    }
}

/// Reads a network. With `is_strict` its address has no bits beyond its length.
fn network(text: &str, is_strict: bool) -> Option<IpNet> {
    let network = match text.split_once('/') {
        None => IpNet::from(text.parse::<IpAddr>().ok()?),
        Some((address, length)) => match (address.parse::<IpAddr>().ok()?, length.parse::<u8>()) {
            (IpAddr::V4(address), Ok(length)) => Ipv4Net::new(address, length).ok()?.into(),
            (IpAddr::V6(address), Ok(length)) => Ipv6Net::new(address, length).ok()?.into(),
            (IpAddr::V4(address), Err(_)) => {
                IpNet::with_netmask(address.into(), length.parse::<Ipv4Addr>().ok()?.into()).ok()?
            }
            (IpAddr::V6(_), Err(_)) => return None,
        },
    };
    (!is_strict || network.addr() == network.network()).then(|| network.trunc())
}
