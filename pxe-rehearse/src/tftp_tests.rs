use proptest::prelude::*;

use super::*;
use crate::captures;

const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const T0: Duration = Duration::ZERO;

fn sent(actions: &[Action]) -> Vec<&[u8]> {
    let mut sent = Vec::new();
    for action in actions {
        if let Action::Send { bytes, .. } = action {
            sent.push(&**bytes);
        }
    }
    sent
}

fn data(block: u16, bytes: &[u8]) -> Vec<u8> {
    [&[0, 3][..], &block.to_be_bytes(), bytes].concat()
}

/// Replays the server's side of a capture and expects the client's side, to the end of the capture.
fn replay(capture: &str, file: &str, style: Style) {
    let datagrams = captures::datagrams(capture);
    let is_ours = |payload: &[u8]| payload.get(2..).is_some_and(|rest| rest.starts_with(file.as_bytes()));
    let first = datagrams.iter().position(|datagram| datagram.to.port() == 69 && is_ours(&datagram.payload)).unwrap();
    let mut ports: Vec<u16> = Vec::new();
    for datagram in &datagrams[first..] {
        if datagram.to.port() == 69 && is_ours(&datagram.payload) && !ports.contains(&datagram.from.port()) {
            ports.push(datagram.from.port());
        }
    }
    let ports = if style == Style::Ipxe { [0, ports[0]] } else { [ports[0], ports[1]] };
    let (mut transfer, mut expected) = Transfer::begin(T0, SERVER_ADDRESS, file, style, ports, 0);
    let mut seen = 0;
    for datagram in &datagrams[first..] {
        if ports.contains(&datagram.from.port()) {
            assert!(!expected.is_empty(), "{capture}, frame {}: nothing was sent", datagram.number);
            let ours = expected.remove(0);
            let bytes = Bytes::Other(datagram.payload.as_slice().into());
            let real = (datagram.from.port(), datagram.to.port(), bytes);
            assert_eq!(
                ours,
                Action::Send { from: real.0, to: real.1, bytes: real.2 },
                "{capture}, frame {}",
                datagram.number
            );
            seen += 1;
        } else if ports.contains(&datagram.to.port()) {
            expected.extend(transfer.on_datagram(T0, datagram.from.port(), datagram.to.port(), &datagram.payload));
        }
    }
    assert!(seen >= 3, "{capture}: only {seen} datagrams");
}

#[test]
fn transfers_equal_the_captured_ones_datagram_for_datagram() {
    replay("ovmf-x64-pxe", "ipxe.efi", Style::Edk);
    replay("ovmf-x64-tftp-windowsize4", "ipxe.efi", Style::Edk);
    replay("ovmf-x64-tftp-windowsize4", "autoexec.ipxe", Style::Ipxe);
    replay("aavmf-arm64", "ipxe-arm64.efi", Style::Edk);
    replay("seabios-ipxe", "undionly.kpxe", Style::Ipxe);
}

#[test]
fn transfer_of_another_length_than_announced_fails() {
    for (announced, expected) in [("3", true), ("4", false)] {
        let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", Style::Ipxe, [1, 2], 2);
        let answer = [&[0, 6][..], b"tsize\0", announced.as_bytes(), &[0]].concat();
        assert_eq!(sent(&transfer.on_datagram(T0, 5000, 2, &answer)), [&[0, 4, 0, 0]]);
        let actions = transfer.on_datagram(T0, 5000, 2, &data(1, b"abc"));
        assert_eq!(sent(&actions), [&[0, 4, 0, 1]]);
        let done = Action::Done(Received { bytes: 3, kept: b"ab".to_vec() });
        assert_eq!(actions.last() == Some(&done), expected, "{actions:?}");
    }
}

#[test]
fn server_without_options_is_understood() {
    let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", Style::Ipxe, [1, 2], 0);
    assert_eq!(sent(&transfer.on_datagram(T0, 5000, 2, &data(1, &[7; 512]))), [&[0, 4, 0, 1]]);
    let actions = transfer.on_datagram(T0, 5000, 2, &data(2, &[]));
    assert_eq!(actions.last(), Some(&Action::Done(Received { bytes: 512, kept: Vec::new() })));
}

#[test]
fn unexpected_blocks_are_answered_as_by_each_client() {
    // The answers to blocks 1, 3, 4, 1 and 2 of a window of four.
    let once = [None, Some(1), None, None, None];
    // EDK2 counts a window from its last acknowledgement.
    let always = [None, Some(1), Some(1), Some(1), None];
    for (style, answers) in [(Style::BootAgent, once), (Style::Edk, always), (Style::Ipxe, always)] {
        let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", style, [2, 2], 0);
        let options = [&[0, 6][..], b"windowsize\x004\0"].concat();
        transfer.on_datagram(T0, 5000, 2, &options);
        if style != Style::Ipxe {
            // The first answer was to the request for the size.
            transfer.on_datagram(T0, 5000, 2, &options);
        }
        for (number, answer) in [1, 3, 4, 1, 2].into_iter().zip(answers) {
            let actions = transfer.on_datagram(T0, 5000, 2, &data(number, &[7; 512]));
            let expected: Vec<_> = answer.map(|block| vec![0, 4, 0, block]).into_iter().collect();
            assert_eq!(sent(&actions), expected, "{style:?}, block {number}");
        }
    }
}

#[test]
fn unsegmented_burst_is_split_into_blocks() {
    let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", Style::Ipxe, [1, 2], 0);
    transfer.on_datagram(T0, 5000, 2, &[&[0, 6][..], b"windowsize\x004\0"].concat());
    let block = [7; 512];
    let burst = [data(1, &block), data(2, &block), data(3, &block), data(4, &block)].concat();
    assert_eq!(sent(&transfer.on_datagram(T0, 5000, 2, &burst)), [&[0, 4, 0, 4]]);
    let last = [data(5, &block), data(6, &[7; 3])].concat();
    let actions = transfer.on_datagram(T0, 5000, 2, &last);
    assert_eq!(actions.last(), Some(&Action::Done(Received { bytes: 5 * 512 + 3, kept: Vec::new() })));
    // A block that is too long is not split.
    let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", Style::Ipxe, [1, 2], 0);
    transfer.on_datagram(T0, 5000, 2, &[&[0, 6][..], b"blksize\x00512\0"].concat());
    assert!(matches!(transfer.on_datagram(T0, 5000, 2, &data(1, &[7; 600]))[..], [Action::Failed(_)]));
}

#[test]
fn block_numbers_wrap() {
    let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", Style::Ipxe, [1, 2], 0);
    transfer.on_datagram(T0, 5000, 2, &[&[0, 6][..], b"blksize\x008\0"].concat());
    for block in 1..=65_600_u32 {
        let actions = transfer.on_datagram(T0, 5000, 2, &data(block as u16, &[0; 8]));
        assert_eq!(actions.len(), 1, "block {block}");
    }
    let actions = transfer.on_datagram(T0, 5000, 2, &data(65_601_u32 as u16, &[]));
    assert_eq!(actions.last(), Some(&Action::Done(Received { bytes: 65_600 * 8, kept: Vec::new() })));
}

#[test]
fn unanswered_packet_is_repeated_six_times() {
    for style in [Style::Edk, Style::BootAgent, Style::Ipxe] {
        let (mut transfer, first) = Transfer::begin(T0, SERVER_ADDRESS, "f", style, [1, 2], 0);
        for _ in 0..6 {
            assert_eq!(transfer.on_timer(transfer.deadline()), first);
        }
        assert!(matches!(transfer.on_timer(transfer.deadline())[..], [Action::Lost(_)]));
        assert_eq!(transfer.on_timer(Duration::from_secs(1000)), []);
    }
}

#[test]
fn stranger_is_answered_with_error_5_and_ignored() {
    let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", Style::Ipxe, [1, 2], 0);
    transfer.on_datagram(T0, 5000, 2, &[&[0, 6][..], b"tsize\x003\0"].concat());
    let actions = transfer.on_datagram(T0, 5001, 2, &data(1, b"xyz"));
    assert!(matches!(&actions[..], [Action::Send { to: 5001, bytes, .. }] if bytes.starts_with(&[0, 5, 0, 5])));
    assert_eq!(transfer.on_datagram(T0, 5000, 2, &data(1, b"abc")).len(), 2);
}

#[test]
fn options_that_were_not_requested_are_refused() {
    for answer in
        [&b"\0\x06timeout\x001\0"[..], b"\0\x06blksize\0x\0", b"\0\x06blksize\x004\0", b"\0\x06windowsize\x000\0"]
    {
        let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", Style::Ipxe, [1, 2], 0);
        assert!(matches!(transfer.on_datagram(T0, 5000, 2, answer)[..], [Action::Failed(_)]), "{answer:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_datagrams_do_not_panic(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8), style in 0..3) {
        let style = [Style::Edk, Style::BootAgent, Style::Ipxe][style as usize];
        let (mut transfer, _) = Transfer::begin(T0, SERVER_ADDRESS, "f", style, [1, 2], 8);
        for payload in payloads {
            for prefix in [&[][..], &[0, 3], &[0, 5], &[0, 6]] {
                let datagram = [prefix, &payload].concat();
                transfer.on_datagram(T0, 5000, transfer.local_port(), &datagram);
            }
        }
    }
}
