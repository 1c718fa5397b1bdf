use std::pin::pin;

use proptest::prelude::*;
use tokio::task::yield_now;

use super::*;

fn machine(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn stranger(number: u8) -> IpAddr {
    IpAddr::from([10, 9, 9, number])
}

fn places(limit: usize) -> Places {
    let places = Places::default();
    places.set_limit(limit);
    places
}

async fn seat(places: &Places, peer: IpAddr, client: Client) -> Option<Seated> {
    // Whoever has to wait does so in vain in these tests.
    let wait = places.seat(peer, client);
    tokio::select! {
        biased;
        seated = wait => seated,
        () = yield_now() => None,
    }
}

/// Takes seats for busy connections until there are no more.
async fn fill(places: &Places, peer: IpAddr, client: Client) -> Vec<Seated> {
    let mut seated = Vec::new();
    while let Some(one) = seat(places, peer, client).await {
        one.seat.set_busy(true);
        seated.push(one);
    }
    seated
}

fn told(seated: &[Seated]) -> Vec<usize> {
    let is_told = |seated: &Seated| seated.seat.is_told.load(Ordering::Relaxed);
    (0..seated.len()).filter(|&index| is_told(&seated[index])).collect()
}

#[tokio::test]
async fn strangers_have_half_of_the_places_and_few_of_many() {
    let eight = places(8);
    let strangers = fill(&eight, stranger(1), Client::Stranger).await;
    assert_eq!(strangers.len(), 4);
    assert_eq!(fill(&eight, machine(1), Client::Machine).await.len(), 8, "a stranger makes room for any machine");
    assert_eq!(told(&strangers), [0, 1, 2, 3]);
    let many = Places::default();
    let mut taken = Vec::new();
    for number in 0..10 {
        taken.push(fill(&many, stranger(number), Client::Stranger).await);
    }
    assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), STRANGER_LIMIT);
}

#[tokio::test]
async fn everybody_has_all_places_where_machines_are_unknown() {
    let places = places(8);
    assert_eq!(fill(&places, stranger(1), Client::Anybody).await.len(), 8);
}

#[tokio::test]
async fn idle_stranger_makes_room_for_a_stranger_at_once() {
    let places = places(8);
    let strangers = fill(&places, stranger(1), Client::Stranger).await;
    assert!(seat(&places, stranger(2), Client::Stranger).await.is_none(), "all are busy");
    strangers[2].seat.set_busy(false);
    let newcomer = seat(&places, stranger(2), Client::Stranger).await;
    assert!(newcomer.is_some());
    assert_eq!(told(&strangers), [2]);
    timeout(Duration::from_secs(9), strangers[2].seat.told_to_leave()).await.unwrap();
}

#[tokio::test]
async fn stranger_that_reads_slowly_makes_room_for_one_that_has_less() {
    let places = places(8);
    let strangers = fill(&places, stranger(1), Client::Stranger).await;
    strangers[3].seat.stall(0);
    strangers[1].seat.stall(0);
    let newcomer = seat(&places, stranger(2), Client::Stranger).await.unwrap();
    newcomer.seat.set_busy(true);
    assert_eq!(told(&strangers), [1]);
    assert!(seat(&places, stranger(1), Client::Stranger).await.is_none(), "it has more than anybody");
    strangers[3].seat.set_reading();
    assert!(seat(&places, stranger(2), Client::Stranger).await.is_none(), "all read");
}

#[tokio::test]
async fn machine_comes_before_strangers_and_the_idle_leave_first() {
    let places = places(4);
    let strangers = fill(&places, stranger(1), Client::Stranger).await;
    let mut machines = Vec::new();
    for number in [1, 2] {
        machines.push(seat(&places, machine(number), Client::Machine).await.unwrap());
        machines.last().unwrap().seat.set_busy(true);
    }
    strangers[1].seat.set_busy(false);
    // The idle stranger goes first, then the busy one.
    for (number, expected) in [(3, &[1][..]), (4, &[0, 1])] {
        machines.push(seat(&places, machine(number), Client::Machine).await.unwrap());
        machines.last().unwrap().seat.set_busy(true);
        assert_eq!(told(&strangers), expected);
    }
    // Nobody is left who could make room: the next machine waits.
    let mut newcomer = pin!(places.seat(machine(9), Client::Machine));
    assert!(is_pending(&mut newcomer).await);
    assert_eq!(told(&machines), [0; 0]);
    drop(machines);
    assert!(newcomer.await.is_some());
}

#[tokio::test]
async fn second_connection_of_a_machine_that_is_idle_makes_room_and_its_only_one_does_not() {
    let places = places(3);
    let mut of_two = Vec::new();
    for peer in [machine(1), machine(1), machine(2)] {
        of_two.extend(seat(&places, peer, Client::Machine).await);
    }
    let _newcomer = seat(&places, machine(3), Client::Machine).await.unwrap();
    assert_eq!(told(&of_two), [0]);
    let mut another = pin!(places.seat(machine(4), Client::Machine));
    assert!(is_pending(&mut another).await);
    assert_eq!(told(&of_two), [0], "each has only one left");
}

/// Whoever takes a machine's address harms that machine alone.
#[tokio::test]
async fn address_of_a_machine_cannot_take_the_places_of_others() {
    let places = Places::default();
    let greedy = fill(&places, machine(1), Client::Machine).await;
    assert_eq!(greedy.len(), LIMIT_PER_MACHINE);
    assert!(seat(&places, machine(2), Client::Machine).await.is_some());
    // The machine itself has the place of an idle one.
    greedy[7].seat.set_busy(false);
    assert!(seat(&places, machine(1), Client::Machine).await.is_some());
    assert_eq!(told(&greedy), [7]);
}

/// The same at the addresses of many machines that are off, read slowly but for ever.
#[tokio::test]
async fn addresses_of_many_machines_cannot_take_the_places_of_others() {
    let places = places(4 * LIMIT_PER_MACHINE);
    let mut greedy = Vec::new();
    for number in 1..=4 {
        for _ in 0..LIMIT_PER_MACHINE {
            let seated = seat(&places, machine(number), Client::Machine).await.unwrap();
            seated.seat.set_busy(true);
            greedy.push(seated);
        }
    }
    let mut machines = Vec::new();
    for number in 10..20 {
        machines
            .push(seat(&places, machine(number), Client::Machine).await.expect("a place for a machine that has none"));
        machines.last().unwrap().seat.set_busy(true);
    }
    assert!((told(&greedy).len(), told(&machines).len()) == (10, 0));
}

#[test]
fn slow_machine_is_waited_for_unless_another_one_wants_its_place() {
    let mut room = Room::new(2);
    let enter = |room: &mut Room, number, second| match room.admit(machine(number), Client::Machine, second) {
        Verdict::Seat(seat) => {
            seat.set_busy(true);
            Some(seat)
        }
        Verdict::Wait => None,
        Verdict::Refuse => panic!("a machine is refused"),
    };
    let (slow, reading) = (enter(&mut room, 1, 0).unwrap(), enter(&mut room, 2, 0).unwrap());
    slow.stall(5);
    for second in [5, 5 + PATIENCE - 1] {
        assert!(enter(&mut room, 3, second).is_none(), "given up in second {second}");
    }
    assert!(enter(&mut room, 3, 5 + PATIENCE).is_some());
    let is_told = |seat: &Seat| seat.is_told.load(Ordering::Relaxed);
    assert!(is_told(&slow) && !is_told(&reading));
}

#[tokio::test]
async fn source_cannot_use_up_all_places() {
    let places = Places::default();
    let greedy = fill(&places, stranger(1), Client::Anybody).await;
    assert_eq!(greedy.len(), LIMIT_PER_SOURCE);
    assert!(seat(&places, stranger(2), Client::Anybody).await.is_some());
}

#[tokio::test]
async fn seats_that_are_free_again_are_forgotten() {
    let places = places(4);
    for _ in 0..1000 {
        drop(seat(&places, stranger(1), Client::Stranger).await);
    }
    assert_eq!(places.taken(), 0);
    let room = places.lock();
    room.strangers.check();
    assert_eq!((room.taken(), room.leaving), (0, 0));
}

/// Returns `true` if the future is not ready at once.
async fn is_pending<T>(future: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    tokio::select! {
        biased;
        _ = future.as_mut() => false,
        () = yield_now() => true,
    }
}

/// Something that happens to the room.
#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(u8, Client),
    Leave(usize),
    Busy(usize, bool),
    Stall(usize),
    Wait(u32),
    Limit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0usize..64;
    prop_oneof![
        6 => (0u8..6).prop_map(|number| Step::Arrive(number, Client::Machine)),
        6 => (0u8..4).prop_map(|number| Step::Arrive(number, Client::Stranger)),
        2 => index().prop_map(Step::Leave),
        4 => (index(), any::<bool>()).prop_map(|(index, is_busy)| Step::Busy(index, is_busy)),
        2 => index().prop_map(Step::Stall),
        1 => (0u32..40).prop_map(Step::Wait),
        1 => (1usize..24).prop_map(Step::Limit),
    ]
}

proptest! {
    /// A list of the connections that are there, without any index, is what the room is compared with.
    #[test]
    fn room_does_what_a_plain_list_says(limit in 1usize..24, steps in prop::collection::vec(step(), 1..200)) {
        let mut room = Room::new(limit);
        let (mut all, mut now): (Vec<Arc<Seat>>, u32) = (Vec::new(), 0);
        let is_told = |seat: &Seat| seat.is_told.load(Ordering::Relaxed);
        for step in steps {
            let seated: Vec<_> = all.iter().filter(|seat| !is_told(seat)).cloned().collect();
            let is_machine = |seat: &Seat| seat.client == Client::Machine;
            match step {
                Step::Arrive(number, client) => {
                    let peer = if client == Client::Machine { machine(number) } else { stranger(number) };
                    let of = |peer, client| seated.iter().filter(|seat| seat.peer == peer && seat.client == client).count();
                    let own = of(peer, client);
                    let strangers = seated.iter().filter(|seat| !is_machine(seat)).count();
                    let is_full = seated.len() >= room.limit || (client == Client::Stranger && strangers >= room.share(client));
                    let is_slow = |seat: &Seat| seat.stalled_since().is_some_and(|since| since + PATIENCE <= now);
                    let can_make_room = match client {
                        Client::Machine => strangers > 0
                            || seated.iter().any(|seat| {
                                let others = of(seat.peer, Client::Machine);
                                (seat.is_idle() && others > own.max(1)) || (is_slow(seat) && others > own) || others >= own + MANY
                            }),
                        _ => seated.iter().any(|seat| {
                            !is_machine(seat)
                                && (seat.is_idle() || (seat.stalled_since().is_some() && of(seat.peer, client) >= own + 2))
                        }),
                    };
                    let is_leaving = room.leaving >= room.leaving_limit();
                    match room.admit(peer, client, now) {
                        Verdict::Seat(seat) => {
                            prop_assert!(!is_full || can_make_room);
                            all.push(seat);
                        }
                        Verdict::Wait => prop_assert!(client == Client::Machine && (is_leaving || is_full && !can_make_room)),
                        Verdict::Refuse => prop_assert!(client == Client::Stranger && (is_leaving || is_full && !can_make_room)),
                    }
                    // A stranger never costs a machine its place.
                    if client == Client::Stranger {
                        prop_assert!(seated.iter().all(|seat| !is_machine(seat) || !is_told(seat)));
                    }
                    // One makes room at most, and a machine's only idle connection does not.
                    let gone: Vec<_> = seated.iter().filter(|seat| is_told(seat)).collect();
                    prop_assert!(gone.len() <= 1);
                    if let Some(gone) = gone.first().filter(|seat| is_machine(seat) && !is_slow(seat)) {
                        prop_assert!(of(gone.peer, Client::Machine) > 1 && strangers == 0);
                    }
                }
                Step::Leave(index) if index < all.len() => room.leave(&all.swap_remove(index)),
                Step::Busy(index, is_busy) if index < all.len() => all[index].set_busy(is_busy),
                Step::Stall(index) if index < all.len() => all[index].stall(now),
                Step::Wait(seconds) => now += seconds,
                Step::Limit(limit) => room.limit = limit,
                Step::Leave(_) | Step::Busy(..) | Step::Stall(_) => {}
            }
            room.machines.check();
            room.strangers.check();
            prop_assert_eq!(room.taken(), all.iter().filter(|seat| !is_told(seat)).count());
            prop_assert_eq!(room.leaving, all.iter().filter(|seat| is_told(seat)).count());
        }
    }
}
