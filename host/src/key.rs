//! API keys: who is calling, and what their role lets them do.
//!
//! A token is shown once, when its key is made; the store keeps its SHA-256. Tokens are 256 random bits, so
//! a plain hash is as good as a slow one.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::id::{KeyId, OrgId, UserId};
use crate::session::Owner;
use crate::tool::hex;

/// A key as the store keeps it, without its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: KeyId,
    pub role: Role,
    pub owner: Owner,
    /// What the key is for, in its maker's words.
    pub label: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

/// What a key may do; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs agents and decides the approvals of its own runs.
    User,
    /// Decides every approval of its organisation.
    Approver,
    /// Acts for any user of its organisation.
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        [Self::User, Self::Approver, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or_else(|| UnknownRole(word.to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no role: write user, approver or admin")]
pub struct UnknownRole(String);

/// A secret that proves who is calling.
pub struct Token(String);

impl Token {
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("hf_{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the store keeps and looks up.
    pub fn hash(token: &str) -> String {
        hex(&Sha256::digest(token.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub owner: Owner,
    pub role: Role,
    /// The bootstrap token's holder: may act in every organisation.
    pub super_admin: bool,
    /// None for the bootstrap token.
    pub key: Option<KeyId>,
}

impl Principal {
    /// The holder of `HOLDFAST_ADMIN_TOKEN`.
    pub fn bootstrap() -> Self {
        let owner = Owner { org: OrgId::from("default"), user: UserId::from("admin") };
        Self { owner, role: Role::Admin, super_admin: true, key: None }
    }

    /// Objects of other organisations look absent.
    pub fn sees(&self, owner: &Owner) -> bool {
        self.super_admin || self.owner.org == owner.org
    }

    /// May start runs for `owner` and cancel them.
    pub fn acts_for(&self, owner: &Owner) -> bool {
        self.sees(owner) && (self.role >= Role::Admin || self.owner.user == owner.user)
    }

    /// May decide the approvals of a run of `owner`.
    pub fn decides_for(&self, owner: &Owner) -> bool {
        self.sees(owner) && (self.role >= Role::Approver || self.owner.user == owner.user)
    }
}

impl From<&Principal> for Actor {
    fn from(principal: &Principal) -> Self {
        Self { user: principal.owner.user.clone(), key: principal.key.clone() }
    }
}

impl From<ApiKey> for Principal {
    fn from(key: ApiKey) -> Self {
        Self { owner: key.owner, role: key.role, super_admin: false, key: Some(key.id) }
    }
}
