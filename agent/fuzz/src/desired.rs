//! Desired states: as they come, and under the operator's signature.
//!
//! Claims: nothing is taken for another group, of another fleet, or with a lower number than is known; what a gateway's
//! place in the wave is does not depend on the share; a larger share only ever adds.

use crate::throwaway::{OPERATOR, TRUST, sealed};
use mainstay_core::policy::{DesiredState, Wanted};
use mainstay_core::trust::MessageKind;
use mainstay_core::wire::decode_body;

/// Bytes 0 to 7: the number that is known; 8 to 15: the time; 16: signed or not; then a body, or an envelope.
pub fn run(data: &[u8]) {
    let Some((seq, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((now, rest)) = rest.split_first_chunk::<8>() else { return };
    let (seq, now) = (u64::from_le_bytes(*seq), u64::from_le_bytes(*now));
    let [sign, body @ ..] = rest else { return };
    let envelope = match sign {
        0 => Some(body.to_vec()),
        _ => sealed(MessageKind::DesiredState, body, &OPERATOR),
    };
    let Some(envelope) = envelope else { return };
    for group in ["line-2", "d/gw-1", "other"] {
        let Ok(desired) = DesiredState::open(&TRUST, &envelope, group, seq, now) else { continue };
        assert_eq!((desired.group.as_str(), &desired.fleet), (group, &TRUST.fleet));
        assert!(desired.seq >= seq && desired.expires.is_none_or(|at| at >= now));
        let again = desired.encode().expect("what is taken can be written");
        assert_eq!(decode_body::<DesiredState>("again", &again).as_ref(), Ok(&desired));
        let _ = desired.signed_in_time(None, now);
        let _ = desired.signed_in_time(Some(now), seq);
        meaning(&desired, now);
    }
}

fn meaning(desired: &DesiredState, now: u64) {
    for device in ["gw-1", "", "a-gateway-with-a-name-as-long-as-a-name-may-be--"] {
        let place = desired.membership(device).place;
        assert!(place < 10_000);
        for unix_s in [None, Some(0), Some(now), Some(u64::MAX)] {
            let wanted = desired.wanted(device, unix_s);
            let wider = DesiredState { rollout_bp: 10_000, ..desired.clone() };
            assert_eq!(wider.membership(device).place, place);
            if matches!(wanted, Wanted::Now | Wanted::Later(_)) {
                assert_eq!(wider.wanted(device, unix_s), wanted, "a larger share only adds");
            }
        }
    }
}
