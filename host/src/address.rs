//! Which addresses are the public internet, and which are somebody's inside.
//!
//! Whoever fetches a URL that a caller or a tool chose checks every address with [`is_public`] and
//! connects to the address it checked. After the IANA special-purpose address registries,
//! and what clouds made of the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// False for loopback, private, link-local (with the clouds' metadata services), carrier-grade NAT,
/// multicast, documentation and reserved ranges, for IPv6 forms that carry such an IPv4 address, and for the one
/// address in a public range behind which a cloud answers its own machines.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    let inside = match a {
        0 | 10 | 127 => true,              // this network, private, loopback
        100 => (64..=127).contains(&b),    // carrier-grade NAT
        168 => (b, c, d) == (63, 129, 16), // Azure's own to each of its machines: settings and certificates
        169 => b == 254,                   // link-local, with the metadata services
        172 => (16..=31).contains(&b),
        192 => match (b, c) {
            // Private; protocol assignments, documentation; AS112, AMT and 6to4 relays.
            (168, _) | (0, 0 | 2) | (31, 196) | (52, 193) | (88, 99) | (175, 48) => true,
            _ => false,
        },
        198 => matches!((b, c), (18 | 19, _) | (51, 100)), // benchmarks, documentation
        203 => (b, c) == (0, 113),
        _ => a >= 224, // multicast, reserved, broadcast
    };
    !inside
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, ..] = address.segments();
    // Only 2000::/3 is handed out; mapped, compatible and NAT64 forms, unique-local, link-local and
    // multicast addresses all lie outside.
    let global_unicast = a & 0xe000 == 0x2000;
    let special = match (a, b) {
        (0x2001, 0..=0x01ff | 0x0db8) | (0x2002, _) | (0x3fff, 0..=0x0fff) => true, // Teredo and kin, documentation, 6to4
        (0x2620, 0x004f) => c == 0x8000,
        _ => false,
    };
    global_unicast && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_addresses_are_not_public_however_they_are_written() {
        let inside = [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ];
        for text in inside {
            assert!(!is_public(text.parse().unwrap()), "{text} is not public");
        }
    }

    #[test]
    fn ordinary_addresses_are_public() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "100.128.0.1",
            "168.63.129.17",
            "172.32.0.1",
            "193.0.0.1",
            "2606:4700::1",
            "2a00:1450::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text} is public");
        }
    }
}
