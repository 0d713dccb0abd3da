//! What the gateways of a fleet say of themselves.
