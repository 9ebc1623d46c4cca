//! What peer connections are made of: the settings that make `rtc` fast.

use std::io;
use std::time::{Duration, Instant};

use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::setting_engine::{
    SctpMaxMessageSize, SettingEngineBuilder,
};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::shared::error::Error as RtcError;

/// The largest message either way, and what `rtc` allots to every connection
/// for putting messages together.
const MAX_MESSAGE: u32 = 64 << 10;

/// A path is checked once nothing has come by it for so long, by the side that
/// made the offer. A NAT forgets it after 30 s at the earliest (RFC 8445 §11).
pub(super) const PATH_REST: Duration = Duration::from_secs(15);

/// By the other side a little later: what it hears of a check is enough.
pub(super) const PATH_REST_ANSWERER: Duration = Duration::from_secs(17);

/// And after so long where something that was sent waits for an answer.
pub(super) const PATH_DOUBT: Duration = Duration::from_secs(1);

/// How often checks go out that are not answered.
pub(super) const ICE_KEEPALIVE: Duration = Duration::from_secs(2);

/// A path that is silent for so long is given up. `rtc` does not judge it: it
/// counts only checks and their answers as signs of life, and most of those are
/// saved where messages come.
pub(super) const PATH_LOST: Duration = Duration::from_secs(25);

/// Checks go out at the pace of RFC 8445 §14.2, for 1.4 s.
const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(50);
const ICE_CHECKS: u16 = 28;

/// What all connections of a process share.
pub(super) struct Factory {
    certificate: RTCCertificate,
    window: usize,
}

impl Factory {
    /// Makes the certificate.
    pub(super) fn new(window: usize) -> io::Result<Self> {
        let make = || {
            let provider = rtc::crypto::default_provider()
                .map_err(|error| RtcError::Other(error.to_string()))?;
            RTCCertificate::generate(
                provider.crypto(),
                rtc::crypto::SignatureScheme::EcdsaP256Sha256,
                CertificateParams::default(),
            )
        };
        let certificate = make().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            certificate,
            window,
        })
    }

    /// The bytes that a channel may have under way.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// A peer connection without channels or candidates.
    pub(super) fn build(&self, now: Instant) -> Result<RTCPeerConnection, RtcError> {
        let at_once = Some(Duration::ZERO);
        let never = Some(Duration::ZERO);
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_host_acceptance_min_wait(at_once)
            .with_srflx_acceptance_min_wait(at_once)
            .with_prflx_acceptance_min_wait(at_once)
            .with_relay_acceptance_min_wait(at_once)
            .with_ice_timeouts(never, never, Some(ICE_KEEPALIVE))
            .with_ice_connection_attempts(Some(ICE_CHECK_INTERVAL), Some(ICE_CHECKS))
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE))
            .build();
        let configuration = RTCConfigurationBuilder::new()
            .with_certificates(vec![self.certificate.clone()])
            .build();
        RTCPeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_setting_engine(settings)
            .build(now)
    }
}
