//! Computes Argon2id. No other file does.
//!
//! Two implementations: `argon2-rust`, fast and new, and `argon2`, the reference. At start they are compared on small
//! inputs. If they differ, the reference is used and an error is logged.

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::domain::model::Cost;

/// The implementation that hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// `argon2-rust`, with SIMD instructions selected at run time.
    Fast,
    /// `argon2`.
    Reference,
}

/// The costs of the comparison, low, so that the start is fast; with and without a pepper key.
const PROBES: [(Cost, &[u8]); 2] = [
    (Cost { memory_kib: 64, passes: 2, lanes: 1 }, b""),
    (Cost { memory_kib: 72, passes: 1, lanes: 2 }, b"the pepper key of a kernel check"),
];

impl Kernel {
    /// Selects the fast kernel, unless its results differ from the reference.
    pub fn choose() -> Self {
        Self::choose_between(&mut Workspace::new(Kernel::Fast))
    }

    fn choose_between(candidate: &mut dyn Derive) -> Self {
        let mut reference = Workspace::new(Kernel::Reference);
        for (cost, secret) in PROBES {
            let (mut tested, mut expected) = ([0; 32], [1; 32]);
            let input = HashInput { password: b"kernel check", salt: b"sixteen bytes...", secret };
            let agree = candidate.derive(cost, input, &mut tested).is_ok()
                && reference.derive(cost, input, &mut expected).is_ok()
                && tested == expected;
            if !agree {
                tracing::error!(
                    ?cost,
                    "the fast Argon2 kernel computes wrong hashes on this machine; using the reference"
                );
                return Kernel::Reference;
            }
        }
        Kernel::Fast
    }
}

/// What is hashed.
#[derive(Clone, Copy)]
pub(super) struct HashInput<'a> {
    pub(super) password: &'a [u8],
    pub(super) salt: &'a [u8],
    /// The secret value K of Argon2 (RFC 9106 section 3.1): a pepper key. Empty: none.
    pub(super) secret: &'a [u8],
}

/// Computes one tag.
pub(super) trait Derive {
    /// Fills `tag`. Fails only for parameters out of range or when memory runs out.
    fn derive(&mut self, cost: Cost, input: HashInput<'_>, tag: &mut [u8]) -> Result<(), &'static str>;
}

/// The memory of a worker: one arena, allocated at the first hash and reused.
pub(super) enum Workspace {
    Fast(Box<argon2_rust::Hasher>),
    Reference(Vec<Block>),
}

impl Workspace {
    pub(super) fn new(kernel: Kernel) -> Self {
        match kernel {
            Kernel::Fast => {
                Workspace::Fast(Box::new(fast_setup(Cost::DEFAULT, 32).expect("the default is valid").hasher()))
            }
            Kernel::Reference => Workspace::Reference(Vec::new()),
        }
    }

    /// Frees memory that only a stored hash of higher cost needed.
    pub(super) fn shrink(&mut self) {
        match self {
            Workspace::Fast(hasher) => hasher.clear(),
            Workspace::Reference(blocks) => *blocks = Vec::new(),
        }
    }
}

impl Derive for Workspace {
    fn derive(&mut self, cost: Cost, input: HashInput<'_>, tag: &mut [u8]) -> Result<(), &'static str> {
        let HashInput { password, salt, secret } = input;
        match self {
            Workspace::Fast(hasher) => {
                hasher.set_argon2(fast_setup(cost, tag.len())?);
                hasher.hash_into_with_ad(password, salt, secret, &[], tag).map_err(|_| "argon2-rust failed")
            }
            Workspace::Reference(blocks) => {
                let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(tag.len()));
                let params = params.map_err(|_| "parameters out of range")?;
                if blocks.len() < params.block_count() {
                    blocks.resize(params.block_count(), Block::default());
                }
                Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params)
                    .map_err(|_| "argon2 refused the pepper key")?
                    .hash_password_into_with_memory(password, salt, tag, &mut blocks[..])
                    .map_err(|_| "argon2 failed")
            }
        }
    }
}

fn fast_setup(cost: Cost, tag_bytes: usize) -> Result<argon2_rust::Argon2, &'static str> {
    use argon2_rust::params::{Memory, TagLen};
    let params = argon2_rust::Params::builder()
        .memory(Memory::kib(cost.memory_kib.into()))
        .passes(cost.passes)
        .lanes(cost.lanes)
        // Each worker uses one core.
        .threads(1)
        .tag_len(TagLen::bytes(tag_bytes as u64))
        .build()
        .map_err(|_| "parameters out of range")?;
    Ok(argon2_rust::Argon2::new(argon2_rust::Algorithm::Argon2id, argon2_rust::Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct WrongKernel;
    impl Derive for WrongKernel {
        fn derive(&mut self, _: Cost, _: HashInput<'_>, tag: &mut [u8]) -> Result<(), &'static str> {
            tag.fill(7);
            Ok(())
        }
    }

    #[test]
    fn kernel_with_wrong_tags_is_not_used() {
        assert_eq!(Kernel::choose_between(&mut WrongKernel), Kernel::Reference);
        assert_eq!(Kernel::choose(), Kernel::Fast);
    }

    #[test]
    fn kernels_agree_at_the_default_cost_and_after_other_costs() {
        let (mut fast, mut reference) = (Workspace::new(Kernel::Fast), Workspace::new(Kernel::Reference));
        let other = Cost { memory_kib: 32_768, passes: 1, lanes: 4 };
        let mut tags = Vec::new();
        for cost in [Cost::DEFAULT, other, PROBES[0].0, Cost::DEFAULT] {
            for secret in [&b""[..], &[7; 32]] {
                let (mut a, mut b) = ([0; 32], [1; 32]);
                let input = HashInput { password: b"correct horse", salt: b"0123456789abcdef", secret };
                fast.derive(cost, input, &mut a).unwrap();
                reference.derive(cost, input, &mut b).unwrap();
                assert_eq!(a, b, "{cost:?}");
                tags.push(a);
            }
        }
        assert_ne!(tags[0], tags[1], "the pepper key changes the tag");
        assert_eq!(tags[..2], tags[6..]);
    }

    /// The test vector of the reference implementation (phc-winner-argon2, test.c, version 0x13, Argon2id).
    #[test]
    fn kernel_computes_the_published_test_vector() {
        let mut tag = [0; 32];
        let cost = Cost { memory_kib: 65_536, passes: 2, lanes: 1 };
        let input = HashInput { password: b"password", salt: b"somesalt", secret: b"" };
        Workspace::new(Kernel::Fast).derive(cost, input, &mut tag).unwrap();
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }
}
