//! Names and networks in few bytes.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::quality::RandomState;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use sha2::{Digest as _, Sha256};

use crate::event::address::address;
use crate::store::hex;

/// Names in one text, by their hashes. A lookup compares about one name. Besides the names it takes 8 to 12 bytes for each.
pub(super) struct NameSet {
    /// Random, so that who writes a list cannot choose names that share a bucket.
    hasher: RandomState,
    /// The beginning that all names share.
    prefix: String,
    /// The rest of each name, by bucket.
    text: String,
    /// The end of each name in the text.
    ends: Vec<u32>,
    /// For each bucket the index of its first name, and at the end the number of names.
    buckets: Vec<u32>,
}

impl NameSet {
    /// Returns the set of distinct `names` in the order of bytes.
    pub(super) fn new(names: &SortedValues<'_>) -> NameSet {
        let shared = |one: &str, other: &str| {
            let same = one.char_indices().zip(other.chars()).take_while(|((_, a), b)| a == b);
            same.last().map_or(0, |((at, letter), _)| at + letter.len_utf8())
        };
        let count = names.len();
        // Names in order share what the first and the last share.
        let prefix = match count {
            0 => String::new(),
            _ => names.get(0)[..shared(names.get(0), names.get(count - 1))].to_owned(),
        };
        let rests = || names.iter().map(|name| &name[prefix.len()..]);
        let bits = count.next_power_of_two().trailing_zeros();
        let hasher = RandomState::default();
        let bucket_of: Vec<u32> = rests().map(|rest| bucket(&hasher, rest, bits)).collect();
        let mut buckets = vec![0_u32; (1 << bits) + 1];
        for bucket in &bucket_of {
            buckets[*bucket as usize + 1] += 1;
        }
        for bucket in 1..buckets.len() {
            buckets[bucket] += buckets[bucket - 1];
        }
        let mut free = buckets.clone();
        let mut order = vec![0_u32; count];
        for (index, bucket) in bucket_of.into_iter().enumerate() {
            let next = &mut free[bucket as usize];
            order[*next as usize] = index_of(index);
            *next += 1;
        }
        drop(free);
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(count));
        text.reserve_exact(rests().map(str::len).sum());
        for index in order {
            text.push_str(&names.get(index as usize)[prefix.len()..]);
            ends.push(index_of(text.len()));
        }
        NameSet { hasher, prefix, text, ends, buckets }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the rest of a name after the prefix.
    fn rest(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start as usize..self.ends[index] as usize]
    }

    pub(super) fn name(&self, index: usize) -> String {
        format!("{}{}", self.prefix, self.rest(index))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix.as_str()) else { return false };
        let bits = (self.buckets.len() - 1).trailing_zeros();
        let bucket = bucket(&self.hasher, rest, bits) as usize;
        (self.buckets[bucket]..self.buckets[bucket + 1]).any(|index| self.rest(index as usize) == rest)
    }
}

/// Returns the bucket of a name, one of two to the power of `bits`.
fn bucket(hasher: &RandomState, name: &str, bits: u32) -> u32 {
    let hash = hasher.hash_one(name);
    if bits == 0 { 0 } else { u32::try_from(hash >> (64 - bits)).unwrap_or(u32::MAX) }
}

/// Returns a position in a list. Files are too small for others.
pub(super) fn index_of(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// Networks as disjoint ranges of addresses, in order: 8 bytes for each of version 4, 32 for each of version 6.
pub(super) struct NetworkSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl NetworkSet {
    pub(super) fn new(networks: impl Iterator<Item = IpNet>) -> NetworkSet {
        let mut set = NetworkSet { v4: Vec::new(), v6: Vec::new() };
        for network in networks {
            match network {
                IpNet::V4(network) => set.v4.push((network.network().to_bits(), network.broadcast().to_bits())),
                IpNet::V6(network) => set.v6.push((network.network().to_bits(), network.broadcast().to_bits())),
            }
        }
        merge(&mut set.v4, |end| end.checked_add(1));
        merge(&mut set.v6, |end| end.checked_add(1));
        set
    }

    /// Returns the number of ranges.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Returns whether `text` is an address in one of the networks, or a network that shares addresses with one.
    pub(super) fn overlaps(&self, text: &str) -> bool {
        if let Some(address) = address(text) {
            return self.has(address) || self.has(address.to_canonical());
        }
        match text.parse::<IpNet>() {
            Ok(IpNet::V4(other)) => overlaps(&self.v4, (other.network().to_bits(), other.broadcast().to_bits())),
            Ok(IpNet::V6(other)) => overlaps(&self.v6, (other.network().to_bits(), other.broadcast().to_bits())),
            Err(_) => false,
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => overlaps(&self.v4, (address.to_bits(), address.to_bits())),
            IpAddr::V6(address) => overlaps(&self.v6, (address.to_bits(), address.to_bits())),
        }
    }

    /// Returns a hash of the addresses.
    pub(super) fn digest(&self) -> String {
        let mut state = Sha256::new();
        state.update((self.v4.len() as u64).to_le_bytes());
        for (from, to) in &self.v4 {
            state.update(from.to_le_bytes());
            state.update(to.to_le_bytes());
        }
        for (from, to) in &self.v6 {
            state.update(from.to_le_bytes());
            state.update(to.to_le_bytes());
        }
        hex(&state.finalize()[..16])
    }

    pub(super) fn networks(&self) -> Vec<IpNet> {
        let v4 = self.v4.iter().flat_map(|(from, to)| Ipv4Subnets::new((*from).into(), (*to).into(), 0));
        let v6 = self.v6.iter().flat_map(|(from, to)| Ipv6Subnets::new((*from).into(), (*to).into(), 0));
        v4.map(IpNet::from).chain(v6.map(IpNet::from)).collect()
    }
}

/// Sorts ranges, and joins overlapping and adjacent ones. `after` returns the next address.
fn merge<A: Copy + Ord>(ranges: &mut Vec<(A, A)>, after: impl Fn(A) -> Option<A>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joins = after(last.1).is_none_or(|after| next.0 <= after);
        if joins {
            last.1 = last.1.max(next.1);
        }
        joins
    });
    ranges.shrink_to_fit();
}

/// Returns whether a range shares addresses with any of `ranges`, which are disjoint and in order.
fn overlaps<A: Copy + Ord>(ranges: &[(A, A)], (from, to): (A, A)) -> bool {
    let after = ranges.partition_point(|range| range.0 <= to);
    ranges[..after].last().is_some_and(|range| from <= range.1)
}

/// Values in any order, as places in a text: their first byte, and the byte after their last.
#[derive(Debug, Default)]
pub(super) struct UnsortedValues {
    pub(super) text: String,
    pub(super) spans: Vec<(u32, u32)>,
}

impl UnsortedValues {
    /// Adds a value to the text.
    pub(super) fn push(&mut self, value: &str) {
        let start = index_of(self.text.len());
        self.text.push_str(value);
        self.spans.push((start, index_of(self.text.len())));
    }

    /// Returns the values in the order of the file. One may come several times.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|(start, end)| &self.text[*start as usize..*end as usize])
    }

    /// Returns the values, each once.
    pub(super) fn sorted(&self) -> SortedValues<'_> {
        let bytes = |(start, end): (u32, u32)| &self.text.as_bytes()[start as usize..end as usize];
        let first = self.spans.first().map_or(&[][..], |span| bytes(*span));
        let shared = |span: &(u32, u32)| bytes(*span).iter().zip(first).take_while(|(one, other)| one == other).count();
        let shared = self.spans.iter().map(shared).min().unwrap_or_default();
        // Most comparisons end within eight bytes, which one number holds.
        let start_of = |span| {
            let mut start = [0; 8];
            for (byte, to) in bytes(span)[shared..].iter().zip(&mut start) {
                *to = *byte;
            }
            u64::from_be_bytes(start)
        };
        let mut by_start: Vec<(u64, (u32, u32))> = self.spans.iter().map(|span| (start_of(*span), *span)).collect();
        by_start.sort_unstable_by_key(|(start, _)| *start);
        for of_one_start in by_start.chunk_by_mut(|(start, _), (other, _)| start == other) {
            of_one_start.sort_unstable_by(|(_, span), (_, other)| bytes(*span).cmp(bytes(*other)));
        }
        by_start.dedup_by(|(start, span), (other_start, other)| start == other_start && bytes(*span) == bytes(*other));
        SortedValues { text: &self.text, spans: by_start.into_iter().map(|(_, span)| span).collect() }
    }
}

/// Distinct values in the order of their bytes, as places in a text.
#[derive(Debug)]
pub(super) struct SortedValues<'t> {
    text: &'t str,
    spans: Vec<(u32, u32)>,
}

impl<'t> SortedValues<'t> {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    fn get(&self, index: usize) -> &'t str {
        self.value(self.spans[index])
    }

    fn value(&self, (start, end): (u32, u32)) -> &'t str {
        &self.text[start as usize..end as usize]
    }

    fn iter(&self) -> impl Iterator<Item = &'t str> {
        self.spans.iter().map(|span| self.value(*span))
    }

    /// Returns a hash of the values.
    pub(super) fn digest(&self) -> String {
        let mut state = Sha256::new();
        for value in self.iter() {
            // A length before each value keeps apart where values end.
            state.update((value.len() as u64).to_le_bytes());
            state.update(value.as_bytes());
        }
        hex(&state.finalize()[..16])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::network;
    use super::*;

    fn name_set(names: &[String]) -> NameSet {
        let mut values = UnsortedValues::default();
        for name in names {
            values.push(name);
        }
        NameSet::new(&values.sorted())
    }

    proptest! {
        #[test]
        fn a_name_set_has_the_names_and_no_others(
            names in prop::collection::btree_set("(arn:)?[ab\u{e9}]{1,4}", 0..40),
            others in prop::collection::vec("(arn:)?[ab\u{e9}]{0,4}", 0..40),
        ) {
            let all: Vec<String> = names.iter().rev().cloned().collect();
            let set = name_set(&all);
            prop_assert_eq!(set.len(), names.len());
            for name in names.iter().chain(&others) {
                prop_assert_eq!(set.contains(name), names.contains(name), "{}", name);
            }
            let listed: BTreeSet<String> = (0..set.len()).map(|index| set.name(index)).collect();
            prop_assert_eq!(listed, names);
        }

        #[test]
        fn a_network_set_has_the_addresses_of_its_networks(
            networks in prop::collection::vec((0..64_u32, 26..=32_u8, any::<bool>()), 1..12),
            others in prop::collection::vec((0..64_u32, 24..=32_u8, any::<bool>()), 1..40),
        ) {
            let text = |(host, length, is_v6): &(u32, u8, bool)| match is_v6 {
                false => format!("192.0.2.{host}/{length}"),
                true => format!("2001:db8::{host:x}/{}", length + 96),
            };
            let networks: Vec<IpNet> = networks.iter().map(|network_of| network(&text(network_of)).unwrap()).collect();
            let set = NetworkSet::new(networks.iter().copied());
            let written: Vec<IpNet> = set.networks();
            for other in &others {
                let other = network(&text(other)).unwrap();
                let brute = |all: &[IpNet]| all.iter().any(|one| one.contains(&other) || other.contains(one));
                prop_assert_eq!(set.overlaps(&other.to_string()), brute(&networks), "{}", other);
                prop_assert_eq!(brute(&written), brute(&networks), "{}", other);
                let address = other.addr().to_string();
                prop_assert_eq!(set.overlaps(&address), networks.iter().any(|one| one.contains(&other.addr())));
            }
        }
    }

    #[test]
    fn digests_of_networks_tell_their_addresses() {
        let digest = |networks: &[&str]| NetworkSet::new(networks.iter().filter_map(|text| network(text))).digest();
        let whole = digest(&["192.0.2.0/24", "2001:db8::/32"]);
        assert_eq!(digest(&["2001:db8::/32", "192.0.2.128/25", "192.0.2.0/25", "192.0.2.9"]), whole);
        let others = [&["192.0.2.0/24"][..], &["2001:db8::/32"], &["192.0.2.0/23", "2001:db8::/32"], &[]].map(digest);
        for (number, other) in others.iter().enumerate() {
            assert!(*other != whole && !others[..number].contains(other), "{number}");
        }
    }

    #[test]
    fn networks_of_all_addresses_and_of_mapped_ones_are_found() {
        let set = |text: &str| NetworkSet::new(text.split(' ').map(|text| network(text).unwrap()));
        let all = set("0.0.0.0/0 ::/0 255.255.255.255");
        assert_eq!((all.v4.len(), all.v6.len()), (1, 1));
        assert!(["192.0.2.1", "::", "0.0.0.0/0"].iter().all(|text| all.overlaps(text)));
        let ten = set("10.0.0.0/8");
        assert!(ten.overlaps("::ffff:10.0.0.1") && !ten.overlaps("::ffff:11.0.0.1"));
        assert!(["", "x", "10", "10.0.0.0/33"].iter().all(|text| !ten.overlaps(text)));
    }

    #[test]
    fn a_million_values_take_little_memory() {
        let names = |count: usize| (0..count).map(|number| format!("arn:aws:iam::111122223333:user/{number:08}"));
        let set = name_set(&names(1_000_000).collect::<Vec<_>>());
        let bytes = set.text.capacity() + 4 * (set.ends.capacity() + set.buckets.capacity());
        assert!(bytes < 64 << 20, "{bytes}");
        assert!(
            set.contains("arn:aws:iam::111122223333:user/00999999")
                && !set.contains("arn:aws:iam::111122223333:user/0")
        );
        let networks =
            (0..1_000_000_u32).map(|number| IpNet::new(std::net::Ipv4Addr::from(number << 9).into(), 24).unwrap());
        let set = NetworkSet::new(networks);
        assert_eq!(set.v4.len(), 1_000_000);
        assert!(8 * set.v4.capacity() < 64 << 20);
    }
}
