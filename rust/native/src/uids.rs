//! Raw UIDs of versions 2, 3 and 4.

use aes::cipher::{KeyIvInit, StreamCipher};
use aes::{Aes128, Aes192, Aes256};
use ctr::Ctr32BE;

use crate::normal::{encode, sha256, Hash, HASH_TEXT};
use crate::salts::{KeyMaterial, Material};

/// What every raw UID of one field has in common.
#[derive(Clone, Copy)]
pub struct Manner {
    pub scope: u8,
    pub identity_type: u8,
    pub environment: u8,
    pub identity_v3: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V2,
    V3,
    V4,
}

pub struct RawUid {
    data: [u8; 33],
    pub version: Version,
}

impl RawUid {
    /// The 44 characters of base64.
    pub fn text(&self) -> [u8; HASH_TEXT] {
        let mut text = [0; HASH_TEXT];
        encode(if self.version == Version::V2 { &self.data[1..] } else { &self.data }, &mut text);
        text
    }
}

/// None when the material is no usable key; the reference then says what is wrong.
pub fn raw_uid(flh: &Hash, flh_text: &[u8; HASH_TEXT], material: &Material, manner: Manner) -> Option<RawUid> {
    let salt: &[u8] = match material {
        Material::Exact(text) => text,
        Material::Text(text) => text,
        Material::Key(key) => return keyed_uid(flh, key, manner),
    };
    let mut data = [0; 33];
    data[0] = manner.scope << 4 | manner.identity_type << 2;
    data[1..].copy_from_slice(&sha256(&[flh_text, salt]));
    Some(RawUid { data, version: if manner.identity_v3 { Version::V3 } else { Version::V2 } })
}

fn keyed_uid(flh: &Hash, material: &KeyMaterial, manner: Manner) -> Option<RawUid> {
    if material.salt.is_empty() {
        return None;
    }
    let half = &flh[16..];
    let mut data = [0; 33];
    data[0] = manner.environment << 6 | 0x20 | manner.scope << 4 | manner.identity_type << 2;
    data[1..4].copy_from_slice(&material.id.to_be_bytes()[1..]);
    let digest = sha256(&[&material.salt, half, &data[..4]]);
    data[4..16].copy_from_slice(&digest[..12]);
    data[16..32].copy_from_slice(half);
    let mut iv = [0; 16];
    iv[..12].copy_from_slice(&digest[..12]);
    let block = &mut data[16..32];
    match material.key.len() {
        16 => Ctr32BE::<Aes128>::new_from_slices(&material.key, &iv).ok()?.apply_keystream(block),
        24 => Ctr32BE::<Aes192>::new_from_slices(&material.key, &iv).ok()?.apply_keystream(block),
        32 => Ctr32BE::<Aes256>::new_from_slices(&material.key, &iv).ok()?.apply_keystream(block),
        _ => return None,
    }
    data[32] = data[..32].iter().fold(0, |folded, byte| folded ^ byte);
    Some(RawUid { data, version: Version::V4 })
}
