//! Functions of IP addresses and networks in text columns.

use std::sync::Arc;

use arrow::array::{AsArray as _, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use ipnet::IpNet;

use super::functions::{not_text, register_text_function, truths};
use crate::event::address::{Class, address, source_network};

pub(super) fn register(context: &SessionContext) {
    for (name, class) in [
        ("is_ip", Class::Address),
        ("is_ipv4", Class::V4),
        ("is_ipv6", Class::V6),
        ("is_private_ip", Class::Private),
        ("is_public_ip", Class::Public),
    ] {
        register_text_function(context, name, 0, DataType::Boolean, move |texts, _| {
            truths(&texts, |text| class.contains(text))
        });
    }
    register_text_function(context, "source_network", 0, DataType::Utf8, |texts, _| {
        let texts = texts.as_string_opt::<i32>().ok_or_else(|| not_text(&texts))?;
        let networks = texts.iter().map(|text| text.map(source_network));
        Ok(Arc::new(networks.collect::<StringArray>()))
    });
    register_text_function(context, "in_cidr", 1, DataType::Boolean, |texts, constants| {
        let network = constants.first().copied().unwrap_or_default();
        let network: IpNet =
            network.parse().map_err(|error| DataFusionError::Execution(format!("`{network}`: {error}")))?;
        truths(&texts, |text| overlaps(network, text))
    });
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
