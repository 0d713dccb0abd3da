//! The envelope: the one grammar that is read before anything is proven.
//!
//! Claims: what is taken has one spelling only (putting it together again gives the same bytes), and no bytes are ever
//! proven by a trust root but those that its keys have signed.

use crate::throwaway::{RELEASE, TRUST, sealed};
use mainstay_core::trust::{Envelope, MessageKind, Role, assemble};

/// The whole input is an envelope.
pub fn run(data: &[u8]) {
    let Ok(envelope) = Envelope::parse(data) else { return };
    let signatures: Vec<_> = envelope.signatures().map(|(id, signature)| (id, *signature)).collect();
    let again = assemble(envelope.kind(), envelope.unproven_body(), &signatures);
    assert_eq!(again.as_deref(), Ok(data), "an envelope has one spelling");
    for (role, kind) in [
        (Role::Root, MessageKind::TrustRoot),
        (Role::Release, MessageKind::Manifest),
        (Role::Operator, MessageKind::DesiredState),
        (Role::Factory, MessageKind::Manifest),
    ] {
        let proven = TRUST.prove(role, kind, &envelope);
        assert!(role != Role::Factory || proven.is_err(), "a role that nobody holds proves nothing");
        if let Ok(proven) = proven {
            assert_eq!(proven.body(), envelope.unproven_body());
            assert_eq!(kind, envelope.kind());
        }
    }
    // Signed by who may, the same body is proven as what it was signed for, and as nothing else.
    let Some(good) = sealed(MessageKind::Manifest, envelope.unproven_body(), &RELEASE) else { return };
    let good = Envelope::parse(&good).expect("what the author makes, the reader reads");
    assert!(TRUST.prove(Role::Release, MessageKind::Manifest, &good).is_ok());
    assert!(TRUST.prove(Role::Operator, MessageKind::DesiredState, &good).is_err());
    assert!(TRUST.prove(Role::Operator, MessageKind::Manifest, &good).is_err());
}
