use super::*;
use crate::plugin::Capabilities;

fn rules(text: &str) -> Vec<HttpRule> {
    toml::from_str::<Capabilities>(text).unwrap().http
}

fn asked<'a>(method: &'a str, scheme: &'a str, authority: &'a str) -> Asked<'a> {
    Asked { method, scheme, authority, path: "/" }
}

/// The host and port that a GET to this authority goes to.
fn goes_to(authority: &str, rules: &[HttpRule]) -> String {
    match decide(&asked("GET", "https", authority), rules) {
        Ok(destination) => destination.authority(),
        Err(Refusal::Malformed(_)) => "malformed".to_owned(),
        Err(refusal) => format!("{refusal:?}"),
    }
}

/// Addresses that are somebody's inside, in the spellings that some parser or other takes. Whatever this one
/// makes of them, no request goes out.
const INSIDE: [&str; 74] = [
    "127.0.0.1",
    "127.0.0.1:443",
    "127.1",
    "127.0.1",
    "127.000.000.001",
    "0177.0.0.1",
    "0177.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0X7F.0x0.0x0.0x1",
    "0x7f000001",
    "0x7F000001",
    "2130706433",
    "017700000001",
    "00000177.1",
    "127.0.0.1.",
    "127.255.255.254",
    "0",
    "0.0.0.0",
    "0x0",
    "00",
    "10.0.0.1",
    "10.1",
    "0xa.1",
    "012.1",
    "167772161",
    "172.16.0.1",
    "0xac100001",
    "2886729729",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.1",
    "0xc0a80001",
    "3232235521",
    "0300.0250.1",
    "169.254.169.254",
    "169.254.43518",
    "0xa9fea9fe",
    "2852039166",
    "0251.0376.0251.0376",
    "0xA9.0xFE.0xA9.0xFE",
    "100.64.0.1",
    "100.100.100.200",
    "1681915905",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "4294967295",
    "[::1]",
    "[::1]:443",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:0a00:0001]",
    "[0:0:0:0:0:ffff:169.254.169.254]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "①②⑦.⓪.⓪.①",
];

#[test]
fn no_spelling_of_an_inside_address_gets_out() {
    let any = rules("http = [{ host = \"*\" }]");
    for authority in INSIDE {
        let refused = goes_to(authority, &any);
        assert!(["malformed", "NotPublic"].contains(&refused.as_str()), "{authority}: {refused}");
    }
    // The deny twin's twin: public ones do, and inside ones do where a rule says so.
    assert_eq!(goes_to("0x08080808", &any), "8.8.8.8");
    assert_eq!(goes_to("[2606:4700::1111]:443", &any), "[2606:4700::1111]");
    let inside = rules("http = [{ host = \"*\", private = true }]");
    assert_eq!(goes_to("0x7f.1", &inside), "127.0.0.1");
    assert_eq!(goes_to("[::1]", &inside), "[::1]");
}

#[test]
fn a_host_is_the_same_however_it_is_written_and_no_other_is() {
    let rules = rules("http = [{ host = \"api.example.com\" }, { host = \"*.bücher.example\" }]");
    for (authority, expected) in [
        ("api.example.com", "api.example.com"),
        ("API.Example.COM:443", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("api.example.com.:443", "api.example.com"),
        ("a.xn--bcher-kva.example", "a.xn--bcher-kva.example"),
        ("a.xn--BCHER-KVA.example", "a.xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "NotGranted"),
        ("api.example.com:444", "NotGranted"),
        ("api.example.com.evil.com", "NotGranted"),
        ("evilapi.example.com", "NotGranted"),
        ("example.com", "NotGranted"),
        ("xn--pi-7kc.example.com", "NotGranted"),
        ("api.example.com..", "malformed"),
        ("api..example.com", "malformed"),
        ("user@api.example.com", "malformed"),
        ("api.example.com@evil.com", "malformed"),
        ("evil.com:443@api.example.com", "malformed"),
        ("api.example.com:443:80", "malformed"),
        ("api.example.com:", "malformed"),
        ("api.example.com:0", "malformed"),
        ("api.example.com:+443", "malformed"),
        ("api.example.com:0443", "malformed"),
        ("api.example.com:65979", "malformed"),
        ("api.example.com\\@evil.com", "malformed"),
        ("api.example.com/evil.com", "malformed"),
        ("api.example.com#@evil.com", "malformed"),
        ("api%2eexample.com", "malformed"),
        ("api.example.com%00.evil.com", "malformed"),
        ("api.example.com\t", "malformed"),
        ("аpi.example.com", "malformed"),
        ("[api.example.com]", "malformed"),
        ("[::1", "malformed"),
        ("[::1]evil.com", "malformed"),
        ("*", "malformed"),
        ("", "malformed"),
    ] {
        assert_eq!(goes_to(authority, &rules), expected, "{authority}");
    }
}

#[test]
fn scheme_method_and_path_count() {
    let rules = rules(
        "http = [{ host = \"a.example\", methods = [\"GET\"] }, { host = \"b.example\", scheme = \"http\", port = 8080 }]",
    );
    let decided = |asked: &Asked<'_>| match decide(asked, &rules) {
        Ok(to) => format!("{}://{}{}", to.scheme.as_str(), to.authority(), to.path),
        Err(Refusal::Malformed(what)) => what.to_owned(),
        Err(refusal) => format!("{refusal:?}"),
    };
    for (method, scheme, authority, expected) in [
        ("GET", "https", "a.example", "https://a.example/"),
        ("GET", "http", "b.example:8080", "http://b.example:8080/"),
        ("GET", "http", "a.example:443", "NotGranted"),
        ("GET", "http", "a.example", "NotGranted"),
        ("GET", "https", "b.example:8080", "NotGranted"),
        ("GET", "http", "b.example", "NotGranted"),
        ("POST", "https", "a.example", "NotGranted"),
        ("get", "https", "a.example", "NotGranted"),
        ("GET", "ftp", "a.example", "the scheme is neither https nor http"),
        ("GET", "HTTPS", "a.example", "the scheme is neither https nor http"),
    ] {
        assert_eq!(decided(&asked(method, scheme, authority)), expected, "{method} {scheme} {authority}");
    }
    for (path, expected) in [
        ("", "https://a.example/"),
        ("/a/../b?c=d%20e", "https://a.example/a/../b?c=d%20e"),
        ("//evil.com/", "https://a.example//evil.com/"),
        ("*", "the path does not begin with /"),
        ("http://evil.com/", "the path does not begin with /"),
        ("evil.com", "the path does not begin with /"),
        ("/a b", "the path has characters that must be percent-encoded"),
        ("/\r\nhost: evil", "the path has characters that must be percent-encoded"),
        ("/ü", "the path has characters that must be percent-encoded"),
        ("/a#b", "the path has characters that must be percent-encoded"),
    ] {
        let asked = Asked { path, ..asked("GET", "https", "a.example") };
        assert_eq!(decided(&asked), expected, "{path}");
    }
}

/// For two seconds, texts made of what URLs are made of: nothing panics, and what is allowed is what the URL
/// standard's own parser makes of the whole URL.
#[test]
fn what_is_allowed_is_what_another_parser_reads() {
    const PIECES: [&str; 40] = [
        "api",
        "example",
        "com",
        "evil",
        ".",
        ".",
        ".",
        "..",
        ":",
        "443",
        "80",
        "@",
        "/",
        "\\",
        "?",
        "#",
        "%",
        "%2e",
        "%00",
        "[",
        "]",
        "::1",
        "ffff",
        "127.0.0.1",
        "0x7f",
        "1",
        "0",
        "api.example.com",
        "api.example.com",
        "*.example.com",
        "xn--",
        "ü",
        "а",
        " ",
        "\t",
        "\n",
        "\0",
        "-",
        "_",
        "+",
    ];
    let rules = rules("http = [{ host = \"api.example.com\" }, { host = \"*.evil\", scheme = \"http\" }]");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        // xorshift64: the same texts every time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let (started, mut allowed) = (std::time::Instant::now(), 0);
    while started.elapsed() < std::time::Duration::from_secs(2) {
        let authority: String = (0..next(7)).map(|_| PIECES[next(PIECES.len())]).collect();
        let path: String = (0..next(5)).map(|_| PIECES[next(PIECES.len())]).collect();
        let scheme = ["https", "http"][next(2)];
        let asked = Asked { method: "GET", scheme, authority: &authority, path: &format!("/{path}") };
        let Ok(destination) = decide(&asked, &rules) else { continue };
        allowed += 1;
        let text = format!("{scheme}://{authority}/{path}");
        let url: url::Url = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let name = url.host_str().unwrap().trim_end_matches('.');
        assert!(
            name == "api.example.com" || name.rsplit('.').next() == Some("evil"),
            "{text} goes to {name}"
        );
        assert_eq!(name, destination.host.to_string(), "{text}");
        assert_eq!(url.port_or_known_default(), Some(destination.port), "{text}");
        assert!(url.username().is_empty() && url.password().is_none(), "{text}");
    }
    assert!(allowed > 100, "of all these texts only {allowed} were allowed");
}
