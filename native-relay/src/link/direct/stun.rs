//! As much of STUN (RFC 8489) as telling datagrams apart needs.

/// What identifies a binding request or its answer.
pub(super) type TransactionId = [u8; 12];

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;

/// A datagram, as far as routing it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Datagram<'a> {
    /// A check of a path by a peer.
    Request {
        /// Names the request.
        id: TransactionId,
        /// The receiver's ufrag, from USERNAME.
        ufrag: Option<&'a str>,
    },
    /// The answer to a check of ours.
    Success(TransactionId),
    /// Any other STUN message.
    OtherStun,
    /// Not STUN.
    Data,
}

/// Tells what a datagram is. Nothing is authenticated here.
pub(super) fn classify(bytes: &[u8]) -> Datagram<'_> {
    let Some((header, attributes)) = bytes.split_at_checked(HEADER) else {
        return Datagram::Data;
    };
    // RFC 7983: STUN has a first byte of 0 to 3.
    if header[0] > 3 || header[4..8] != MAGIC_COOKIE {
        return Datagram::Data;
    }
    let mut id = TransactionId::default();
    id.copy_from_slice(&header[8..HEADER]);
    match u16::from_be_bytes([header[0], header[1]]) {
        BINDING_REQUEST => Datagram::Request {
            id,
            ufrag: local_ufrag(attributes),
        },
        BINDING_SUCCESS => Datagram::Success(id),
        _ => Datagram::OtherStun,
    }
}

/// The part of USERNAME before the colon: the ufrag of the side asked.
fn local_ufrag(mut attributes: &[u8]) -> Option<&str> {
    loop {
        let (head, rest) = attributes.split_at_checked(4)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if kind == USERNAME {
            let name = std::str::from_utf8(rest.get(..length)?).ok()?;
            return name.split_once(':').map(|(ours, _)| ours);
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((attributes.len() as u16).to_be_bytes());
        bytes.extend(MAGIC_COOKIE);
        bytes.extend([7; 12]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn finds_the_ufrag_behind_another_attribute() {
        let mut attributes = vec![0x80, 0x22, 0, 3, b'a', b'b', b'c', 0];
        attributes.extend([0, 6, 0, 7]);
        attributes.extend(b"our:the\0");
        assert_eq!(
            classify(&message(BINDING_REQUEST, &attributes)),
            Datagram::Request {
                id: [7; 12],
                ufrag: Some("our")
            }
        );
    }

    #[test]
    fn cut_messages_never_panic() {
        let mut attributes = vec![0, 6, 0, 7];
        attributes.extend(b"our:the\0");
        let whole = message(BINDING_REQUEST, &attributes);
        for end in 0..whole.len() {
            let kind = classify(&whole[..end]);
            assert!(!matches!(kind, Datagram::Request { ufrag: Some(_), .. }) || end >= 31);
        }
    }

    #[test]
    fn answers_and_other_messages_are_told_apart() {
        assert_eq!(
            classify(&message(BINDING_SUCCESS, &[])),
            Datagram::Success([7; 12])
        );
        assert_eq!(classify(&message(0x0111, &[])), Datagram::OtherStun);
        assert_eq!(classify(&[22, 254, 253]), Datagram::Data);
    }
}
