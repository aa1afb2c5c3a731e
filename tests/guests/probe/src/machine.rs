//! What a guest can see of the machine. On a good host everything is empty or a refusal.

use std::{fmt::Debug, io};

use schemars::JsonSchema;
use serde::Serialize;
// The standard library's sockets do not link with every compiler that guests are built with.
use wasip2::sockets::{
    instance_network::instance_network,
    ip_name_lookup::resolve_addresses,
    network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress},
    tcp_create_socket::create_tcp_socket,
    udp_create_socket::create_udp_socket,
};

#[derive(Serialize, JsonSchema)]
pub(crate) struct Seen {
    variables: Vec<String>,
    args: Vec<String>,
    read_root: String,
    read_file: String,
    write_file: String,
    lookup: String,
    connect: String,
    listen: String,
    udp: String,
}

impl Seen {
    pub(crate) fn now() -> Self {
        Self {
            variables: std::env::vars().map(|(name, value)| format!("{name}={value}")).collect(),
            args: std::env::args().collect(),
            read_root: told(std::fs::read_dir("/").map(Iterator::count)),
            read_file: told(std::fs::read("/etc/passwd").map(|bytes| bytes.len())),
            write_file: told(std::fs::write("/probe", b"x")),
            lookup: told(lookup()),
            connect: told(connect()),
            listen: told(listen()),
            udp: told(udp()),
        }
    }
}

fn lookup() -> Result<Option<String>, ErrorCode> {
    let addresses = resolve_addresses(&instance_network(), "localhost")?;
    addresses.subscribe().block();
    let first = addresses.resolve_next_address()?;
    Ok(first.map(|address| format!("{address:?}")))
}

fn loopback(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

fn connect() -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), loopback(80))?;
    socket.subscribe().block();
    socket.finish_connect().map(drop)
}

fn listen() -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), loopback(0))?;
    socket.subscribe().block();
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.subscribe().block();
    socket.finish_listen()
}

fn udp() -> Result<(), ErrorCode> {
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), loopback(0))?;
    socket.subscribe().block();
    socket.finish_bind()?;
    socket.stream(Some(loopback(53))).map(drop)
}

fn told<T: Debug, E: Refusal>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => format!("granted: {value:?}"),
        Err(error) => format!("refused: {}", error.in_words()),
    }
}

trait Refusal {
    fn in_words(&self) -> String;
}

impl Refusal for io::Error {
    fn in_words(&self) -> String {
        self.to_string()
    }
}

impl Refusal for ErrorCode {
    fn in_words(&self) -> String {
        self.name().to_owned()
    }
}
