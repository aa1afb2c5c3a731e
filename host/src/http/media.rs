//! Media beside a message: checked, and fetched where it is a URL, before a run exists.
//!
//! A URL is a caller's: https only, no redirects, public addresses only, and the connection goes to the
//! addresses that were checked.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use super::problem::{InvalidParam, Kind, Problem};
use crate::outbound::{self, Reach};
use crate::session::Media;

/// An image or another attachment.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object with type and data")]
pub(super) struct MediaInput {
    /// The media type, such as `image/png`.
    #[serde(rename = "type")]
    #[schema(example = "image/png")]
    mime: String,
    /// Base64, or an https URL.
    data: String,
}

/// What may be attached.
#[derive(Clone, Copy, Debug)]
pub struct MediaLimits {
    /// Most bytes of one attachment, decoded.
    pub max_bytes: usize,
    /// Also plain http and addresses that are not public: for development.
    pub allow_private: bool,
}

/// Most attachments to one message.
const MAX_ITEMS: usize = 16;

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub(crate) struct MediaChecker {
    limits: MediaLimits,
    client: reqwest::Client,
}

impl MediaChecker {
    pub(crate) fn new(limits: MediaLimits) -> Result<Self, reqwest::Error> {
        let reach = Reach::allowing_private(limits.allow_private);
        let client = outbound::client(reach, FETCH_TIMEOUT)?;
        Ok(Self { limits, client })
    }

    /// All of it as bytes in base64, or a 400 that names what is wrong.
    pub(super) async fn check(
        &self,
        items: Vec<MediaInput>,
        model_sees: bool,
    ) -> Result<Vec<Media>, Problem> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        if items.len() > MAX_ITEMS {
            return Err(Problem::invalid_param("media", format!("may have {MAX_ITEMS} items at most")));
        }
        let mut media = Vec::with_capacity(items.len());
        let mut invalid = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match self.check_one(item).await {
                Ok(item) => media.push(item),
                Err((field, message)) => {
                    invalid.push(InvalidParam::new(format!("media[{index}].{field}"), message));
                }
            }
        }
        if !invalid.is_empty() {
            return Err(Problem::invalid(&invalid));
        }
        if !model_sees {
            let detail = "The agent's model does not read media. Choose a model with vision, or leave media out. (An \
                          operator can set vision = true for a model that does.)";
            return Err(Problem::new(Kind::BusinessValidation, detail));
        }
        Ok(media)
    }

    async fn check_one(&self, item: MediaInput) -> Result<Media, (&'static str, String)> {
        let MediaInput { mime, data } = item;
        if !is_media_type(&mime) {
            let message =
                "must be a media type that models read: image/…, audio/…, video/… or application/pdf";
            return Err(("type", message.to_owned()));
        }
        let base64 = if data.contains("://") {
            let bytes = self.fetch(&data).await.map_err(|message| ("data", message))?;
            STANDARD.encode(bytes)
        } else {
            self.check_base64(&data).map_err(|message| ("data", message))?;
            data
        };
        Ok(Media { mime: mime.to_ascii_lowercase(), base64 })
    }

    fn check_base64(&self, data: &str) -> Result<(), String> {
        let bytes = STANDARD
            .decode(data)
            .map_err(|_| "is neither base64 (standard alphabet, padded) nor an https URL".to_owned())?;
        if bytes.is_empty() {
            return Err("is empty".to_owned());
        }
        if bytes.len() > self.limits.max_bytes {
            return Err(self.too_large());
        }
        Ok(())
    }

    async fn fetch(&self, address: &str) -> Result<Vec<u8>, String> {
        let url = self.check_url(address)?;
        let unreachable = |error: reqwest::Error| {
            tracing::info!(error = &error as &dyn std::error::Error, "media could not be fetched");
            "could not be fetched; send the bytes as base64 instead".to_owned()
        };
        let response = self.client.get(url).send().await.map_err(unreachable)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("could not be fetched: its server answered {}", response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(unreachable)?);
            if bytes.len() > self.limits.max_bytes {
                return Err(self.too_large());
            }
        }
        Ok(bytes)
    }

    fn check_url(&self, address: &str) -> Result<Url, String> {
        let url = Url::parse(address).map_err(|_| "is neither base64 nor a valid https URL".to_owned())?;
        outbound::check_url(&url, Reach::allowing_private(self.limits.allow_private))?;
        Ok(url)
    }

    fn too_large(&self) -> String {
        format!("is larger than {} bytes", self.limits.max_bytes)
    }
}

fn is_media_type(mime: &str) -> bool {
    let Some((kind, subtype)) = mime.split_once('/') else { return false };
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
    let family = matches!(kind.to_ascii_lowercase().as_str(), "image" | "audio" | "video")
        || mime.eq_ignore_ascii_case("application/pdf");
    family && !subtype.is_empty() && subtype.bytes().all(token)
}
