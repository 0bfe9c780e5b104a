//! The network below a connection: TCP, or one that a test supplies.

use std::{future::Future, io};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Opens byte streams to the gateway.
pub trait Network {
    /// One stream.
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// Connects to a port of a host. It has no time limit of its own; the caller sets one.
    fn connect(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Self::Stream>>;
}

/// The machine's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Network for Tcp {
    type Stream = TcpStream;

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((host, port)).await?;
        // An ack of a few bytes must not wait for the ack before it.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
