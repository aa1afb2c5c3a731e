//! A client of event streams that sees every byte.

use serde_json::Value;

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) raw: String,
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Frame {
    fn parse(raw: &str) -> Self {
        let line = |name: &str| raw.lines().find_map(|line| line.strip_prefix(name)).expect(name).to_owned();
        let data: Value = serde_json::from_str(&line("data: ")).expect("data is JSON");
        assert!(data["timestamp"].is_i64(), "{raw}");
        Self {
            raw: raw.to_owned(),
            id: line("id: "),
            event: data["event"].as_str().expect("an event").to_owned(),
            data: data["data"].as_str().expect("data is a string").to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON text")
    }
}

/// An open stream.
pub(crate) struct Stream {
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// Comments so far.
    pub(crate) pings: usize,
}

impl Stream {
    pub(crate) async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: Vec::new(), pings: 0 }
    }

    /// The next block as it came, comments included; none = the stream has ended.
    async fn block(&mut self) -> Option<String> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.buffer[looked..].windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..looked + end + 2).collect();
                return Some(String::from_utf8(block).expect("UTF-8"));
            }
            looked = self.buffer.len().saturating_sub(1);
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let block = self.block().await?;
            if block.starts_with(':') {
                assert_eq!(block, ": ping\n\n");
                self.pings += 1;
            } else {
                return Some(Frame::parse(&block));
            }
        }
    }

    /// Waits for a comment, before which no frame may come.
    pub(crate) async fn ping(&mut self) {
        assert_eq!(self.block().await.as_deref(), Some(": ping\n\n"));
        self.pings += 1;
    }

    /// Reads on up to and with the frame of this event.
    pub(crate) async fn until(&mut self, event: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            let found = frame.event == event;
            frames.push(frame);
            if found {
                return frames;
            }
        }
        panic!("the stream ended before {event}: {frames:#?}");
    }

    pub(crate) async fn rest(mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

/// The bytes of these frames.
pub(crate) fn bytes(frames: &[Frame]) -> String {
    frames.iter().map(|frame| frame.raw.as_str()).collect()
}

/// One line a frame: id, event, data.
pub(crate) fn lines(frames: &[Frame]) -> String {
    let lines = frames.iter().map(|frame| format!("{} {} {}", frame.id, frame.event, frame.data));
    lines.collect::<Vec<_>>().join("\n")
}

/// The events in order.
pub(crate) fn events(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.event.as_str()).collect()
}
