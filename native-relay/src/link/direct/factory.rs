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

/// A path whose peer answers no checks is idle for the first of these, and
/// given up after the second on top.
const ICE_DISCONNECTED: Duration = Duration::from_secs(5);
const ICE_FAILED: Duration = Duration::from_secs(10);
const ICE_KEEPALIVE: Duration = Duration::from_secs(2);

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
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_host_acceptance_min_wait(at_once)
            .with_srflx_acceptance_min_wait(at_once)
            .with_prflx_acceptance_min_wait(at_once)
            .with_relay_acceptance_min_wait(at_once)
            .with_ice_timeouts(
                Some(ICE_DISCONNECTED),
                Some(ICE_FAILED),
                Some(ICE_KEEPALIVE),
            )
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
