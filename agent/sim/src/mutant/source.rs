//! A bent source, and bent frames: what is made of an answer that is not there, not right, or not whole.

use super::{Bent, Mutant};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::FaultKind;
use mainstay_core::seam::*;

pub(super) struct Source<'a> {
    pub inner: Box<dyn PieceSource + 'a>,
    pub bent: Bent,
}

impl PieceSource for Source<'_> {
    fn only_forward(&self) -> bool {
        self.inner.only_forward()
    }
    fn forget(&mut self, name: &Digest) {
        self.inner.forget(name);
    }
    fn prefetch(&mut self, name: &Digest, bytes: u32) -> bool {
        self.inner.prefetch(name, bytes)
    }
    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        let gone = self.bent.is(Mutant::LinkDownIsNotFound);
        self.inner.fetch(name, bytes).map_err(|fault| match fault.kind {
            FaultKind::Disconnected if gone => fault!(NotFound, "no object {name:?}"),
            _ => fault,
        })
    }
    fn release(&mut self, name: &Digest) {
        self.inner.release(name);
    }
    fn refute(&mut self, name: &Digest) -> Result<()> {
        match self.bent.is(Mutant::NeverAsksAgain) {
            true => Err(fault!(Corrupt, "object {name:?} is not what its name says")),
            false => self.inner.refute(name),
        }
    }
}

pub(super) struct Frames<'a> {
    pub inner: Box<dyn Inflate + 'a>,
    pub bent: Bent,
}

impl Inflate for Frames<'_> {
    fn inflate(&mut self, frame: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<usize> {
        let made = self.inner.inflate(frame, prefix, out)?;
        Ok(made - usize::from(self.bent.is(Mutant::InflatesShort)))
    }
}
