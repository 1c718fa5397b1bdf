//! What a transfer wants sent: its options, its blocks from memory, cache or disk.

use std::{net::SocketAddrV4, ops::Range, sync::Arc};

use super::{Message, Route, Worker};
use crate::{
    artifacts::OpenArtifact,
    model::failure::UNREADABLE,
    tftp::{
        blocks::{Patience, ReadError, Run},
        chunks::Chunk,
        metrics::TransferResult,
        options::Terms,
        packet::{ErrorCode, HEADER_LENGTH, error_packet},
        socket::{Destination, Outbox},
        transfer::Action,
    },
};

impl Worker {
    pub(super) fn perform(&mut self, client: SocketAddrV4, action: Action) {
        match action {
            Action::Wait => {}
            Action::SendOptions => {
                let Some(running) = self.transfers.get(&client) else { return };
                let packet = running.transfer.terms().option_acknowledgement();
                self.send(client, &packet);
            }
            Action::SendBlocks { first, count } => self.send_blocks(client, first, count, Patience::CacheOnly),
            Action::End(outcome) => self.conclude(client, &outcome),
        }
    }

    pub(super) fn send(&mut self, client: SocketAddrV4, packet: &[u8]) {
        if !self.outbox.has_room(packet.len()) {
            self.flush();
        }
        if let Some(space) = self.outbox.space(packet.len()).get_mut(..packet.len()) {
            space.copy_from_slice(packet);
            self.outbox.push(client.into(), packet.len(), packet.len());
        }
    }

    pub(super) fn send_blocks(&mut self, client: SocketAddrV4, first: u64, count: u16, patience: Patience) {
        let Some(running) = self.transfers.get_mut(&client) else { return };
        if running.cold.is_some() {
            // What waits for the disk will be sent; whatever was asked since, the timer repeats.
            return;
        }
        let (terms, file) = (*running.transfer.terms(), Arc::clone(&running.file));
        let end = first + u64::from(count);
        if end > terms.blocks() && !file.is_unchanged() {
            return self.break_off(client, "the file changed while it was sent");
        }
        let mut next = first;
        while next < end {
            if !self.outbox.has_room(0) {
                self.flush();
            }
            match self.queue_blocks(client, &terms, &file, next..end, patience) {
                Ok(queued) => next += queued as u64,
                Err(ReadError::Cold) => {
                    return self.warm(client, next, (end - next) as u16, Run::new(&terms, next, 1).offset());
                }
                Err(ReadError::Shrunk) => return self.break_off(client, "the file shrank while it was sent"),
                Err(ReadError::Io(error)) => return self.break_off(client, &format!("{UNREADABLE}: {error}")),
            }
        }
    }

    /// Queues as many of these blocks as go into one send, and says how many.
    fn queue_blocks(
        &mut self,
        client: SocketAddrV4,
        terms: &Terms,
        file: &OpenArtifact,
        blocks: Range<u64>,
        patience: Patience,
    ) -> Result<usize, ReadError> {
        let datagram = HEADER_LENGTH + usize::from(terms.block_size);
        let Some(running) = self.transfers.get_mut(&client) else { return Ok((blocks.end - blocks.start) as usize) };
        if running.route == Route::Unknown {
            running.route = self.outbox.neighbour(&self.probe, client).map_or(Route::Stack, Route::Direct);
        }
        let mac = if let Route::Direct(mac) = running.route { Some(mac) } else { None };
        let to = Destination { client, mac };
        let mut count = Outbox::segments(datagram).min((blocks.end - blocks.start) as usize);
        if let Some(cursor) = &mut running.cursor {
            let piece = cursor.piece(terms, blocks.start, blocks.end);
            let mut chunk = cursor.find(&self.chunks, terms, &piece);
            if chunk.is_none() && piece.begins_chunk() {
                let run = Run::new(terms, piece.chunk_start, piece.chunk_blocks);
                let mut bytes = vec![0; run.length()];
                run.read(&file.file, &mut bytes, patience)?;
                chunk = Some(self.chunks.keep(cursor.key(terms, &piece), Chunk(bytes)));
            }
            if let Some(chunk) = chunk {
                let range = piece.range(&chunk, datagram);
                self.outbox.push_chunk(to, chunk, range, datagram);
                return Ok(piece.count);
            }
            count = piece.count;
        }
        let run = Run::new(terms, blocks.start, count);
        if !self.outbox.has_room(run.length()) {
            self.flush();
        }
        run.read(&file.file, self.outbox.space(run.length()), patience)?;
        self.outbox.push(to, run.length(), datagram);
        Ok(count)
    }

    /// Has somebody else wait for the disk.
    fn warm(&mut self, client: SocketAddrV4, first: u64, count: u16, offset: u64) {
        let Some(running) = self.transfers.get_mut(&client) else { return };
        running.cold = Some((first, count));
        let (file, serial, mailbox) = (Arc::clone(&running.file), running.serial, Arc::clone(&self.mailbox));
        self.disk.spawn_blocking(move || {
            file.read_ahead(offset);
            mailbox.tell(Message::Warmed { client, serial });
        });
    }

    /// Tells the client that its transfer is over, and why.
    fn break_off(&mut self, client: SocketAddrV4, reason: &str) {
        self.end(client, TransferResult::file_error, Some(reason));
        self.send(client, &error_packet(ErrorCode::Undefined, reason));
    }
}
