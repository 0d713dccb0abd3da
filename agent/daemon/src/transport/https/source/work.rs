//! What the thread does: asks for groups, reads their answers in order, and begins anew after what went wrong.

use super::*;
use crate::transport::https::answer::Head;

/// How an attempt went wrong.
struct Failure {
    fault: Fault,
    object: Option<Digest>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure { fault, object: None }
    }
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        fault!(Disconnected, "{words}").into()
    }
}

type Done = std::result::Result<(), Failure>;

/// What there is to do.
enum Job {
    Ask(Group),
    Read,
    Through(Part),
}

impl Worker {
    pub fn new(depot: Depot, shared: Arc<Shared>) -> Self {
        let backoff = Backoff::new(depot.reconnect);
        Worker {
            depot,
            shared,
            connection: None,
            asked: VecDeque::new(),
            reading: false,
            ranges: None,
            keeps: true,
            through: None,
            throughs: 0,
            backoff,
        }
    }

    /// Until the source is dropped.
    pub fn run(mut self) {
        while let Some(job) = self.next_job() {
            let done = match job {
                Job::Ask(group) => self.ask(group),
                Job::Read => self.read(),
                Job::Through(part) => self.read_through(part),
            };
            if let Err(failure) = done
                && !self.failed(failure)
            {
                return;
            }
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        loop {
            if state.stopped {
                return None;
            }
            // Until it is known that the server gives ranges, and keeps connections, one after the other.
            let most = if self.ranges == Some(true) && self.keeps { GROUPS_MAX } else { 1 };
            if self.asked.len() < most
                && let Some(mut group) = state.next_group(self.asked.len(), self.depot.window_bytes)
            {
                match (self.ranges, group.parts.front().copied()) {
                    // One by one, and the others wait on.
                    (Some(false), Some(part)) if part.place.is_some() => {
                        group.parts.pop_front();
                        put_back(&mut state, &group);
                        return Some(Job::Through(part));
                    }
                    _ => return Some(Job::Ask(group)),
                }
            }
            if !self.asked.is_empty() {
                return Some(Job::Read);
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ask(&mut self, group: Group) -> Done {
        let target = group.target;
        self.asked.push_back(group); // first, so that whatever fails now is asked for again
        if self.connection.is_none() {
            self.connection = Some(self.open(0)?);
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        Ok(connection.ask(&self.depot, target)?)
    }

    fn open(&self, which: usize) -> std::result::Result<Connection, String> {
        let (connection, closer) = Connection::open(&self.depot)?;
        let mut state = self.shared.lock();
        if state.stopped {
            return Err("stopped".into());
        }
        if let Some(place) = state.closers.get_mut(which) {
            *place = Some(closer);
        }
        Ok(connection)
    }

    /// Reads on in the answer to the first group that was asked for: its head, or one part. Between two parts others may
    /// be asked for.
    fn read(&mut self) -> Done {
        if !self.reading {
            return self.read_head();
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let Some(group) = self.asked.front_mut() else { return Ok(()) };
        if let Some(part) = group.parts.front() {
            let exact = !matches!(group.target, Target::Object(_));
            let object = read_object(connection, &self.depot, part.bytes as usize, exact)?;
            deliver(&self.shared, &part.name, object);
            self.backoff.reset();
            group.parts.pop_front();
        }
        if !group.parts.is_empty() {
            return Ok(());
        }
        if !connection.body(&self.depot, 1)?.is_empty() {
            return Err(fault!(Corrupt, "{}: expected the end of the answer, found more", self.depot).into());
        }
        self.reading = false;
        self.asked.pop_front();
        if !self.keeps {
            self.hang_up();
        }
        Ok(())
    }

    fn read_head(&mut self) -> Done {
        let Some(connection) = &mut self.connection else { return Err("no connection".to_string().into()) };
        let head = connection.head(&self.depot)?;
        let Some(group) = self.asked.front() else { return Ok(()) };
        let (target, Some(part)) = (group.target, group.parts.front().copied()) else { return Ok(()) };
        match (head.status, target) {
            (206, Target::Range(_, first, last)) if head.range == Some((first, last)) => {
                self.ranges = Some(true)
            }
            (206, Target::Range(_, first, last)) => {
                let found =
                    head.range.map_or("none".to_string(), |(first, last)| format!("{first} to {last}"));
                return Err(fault!(
                    Corrupt,
                    "{}: asked for bytes {first} to {last}, found {found}",
                    self.depot
                )
                .into());
            }
            (200, Target::Range(route, ..)) => return self.turn_to_through(route),
            (200, Target::Object(_)) => {}
            _ => return Err(self.refused(&head, target, part.name)),
        }
        (self.keeps, self.reading) = (head.keeps, true);
        self.shared.lock().requests += 1;
        Ok(())
    }

    /// An answer with a status that we have no use for.
    fn refused(&self, head: &Head, target: Target, object: Digest) -> Failure {
        let (depot, status, file) = (&self.depot, head.status, super::super::name(target));
        let fault = match status {
            404 | 410 => fault!(NotFound, "{depot}: {file}: not there (status {status})"),
            416 => fault!(NotFound, "{depot}: {file}: is shorter than its route (status 416)"),
            300..=399 => fault!(Refused, "{depot}: {file}: redirects are not followed (status {status})"),
            401 | 403 => fault!(Refused, "{depot}: {file}: we may not have it (status {status})"),
            _ => fault!(Disconnected, "{depot}: {file}: expected status 200 or 206, found {status}"),
        };
        Failure { object: (fault.kind == FaultKind::NotFound).then_some(object), fault }
    }

    /// The server has no ranges: the answer that has begun is the whole route.
    fn turn_to_through(&mut self, route: Digest) -> Done {
        if self.ranges == Some(true) {
            return Err(fault!(Disconnected, "{}: gives a range, and then the whole file", self.depot).into());
        }
        self.ranges = Some(false);
        self.count_through()?;
        self.through = self.connection.take().map(|connection| Through { connection, route, at: 0 });
        let mut state = self.shared.lock();
        state.requests += 1;
        let closer = state.closers.get_mut(0).and_then(Option::take);
        if let Some(place) = state.closers.get_mut(1) {
            *place = closer;
        }
        for group in self.asked.drain(..) {
            put_back(&mut state, &group);
        }
        Ok(())
    }

    fn count_through(&mut self) -> Done {
        self.throughs += 1;
        if self.throughs > THROUGH_MAX {
            return Err(fault!(
                Unsupported,
                "{}: gives no ranges, and would have to send a route from its begin more than {THROUGH_MAX} times",
                self.depot
            )
            .into());
        }
        Ok(())
    }

    /// Reads on to a piece, and the piece.
    fn read_through(&mut self, part: Part) -> Done {
        let Some(place) = part.place else { return Ok(()) };
        let group = Group { target: Target::Whole(place.route), parts: VecDeque::from([part]) };
        self.asked.push_back(group); // so that it is asked for again if this fails
        if self.through.as_ref().is_none_or(|t| t.route != place.route || t.at > place.at) {
            self.through = None;
            self.count_through()?;
            self.through = Some(self.begin_through(place.route, part.name)?);
        }
        let Some(through) = &mut self.through else { return Ok(()) };
        through.connection.resume();
        while through.at < place.at {
            let most = usize::try_from(place.at - through.at).unwrap_or(usize::MAX);
            let skipped = through.connection.body(&self.depot, most)?.len();
            if skipped == 0 {
                return Err(Failure {
                    fault: fault!(
                        NotFound,
                        "{}: r/{}: ends at byte {}, a piece lies at {}",
                        self.depot,
                        place.route,
                        through.at,
                        place.at
                    ),
                    object: Some(part.name),
                });
            }
            through.at += skipped as u64;
        }
        let object = read_object(&mut through.connection, &self.depot, part.bytes as usize, true)?;
        through.at += object.len() as u64;
        deliver(&self.shared, &part.name, object);
        self.asked.clear();
        self.backoff.reset();
        Ok(())
    }

    fn begin_through(&mut self, route: Digest, object: Digest) -> std::result::Result<Through, Failure> {
        let mut connection = self.open(1)?;
        connection.ask(&self.depot, Target::Whole(route))?;
        let head = connection.head(&self.depot)?;
        if head.status != 200 {
            return Err(self.refused(&head, Target::Whole(route), object));
        }
        self.shared.lock().requests += 1;
        Ok(Through { connection, route, at: 0 })
    }

    fn hang_up(&mut self) {
        (self.connection, self.reading) = (None, false);
        let mut state = self.shared.lock();
        if let Some(closer) = state.closers.get_mut(0) {
            *closer = None;
        }
        for group in self.asked.drain(..) {
            put_back(&mut state, &group);
        }
    }

    /// Closes, says why, and waits a while; `false`: the source has been dropped.
    fn failed(&mut self, failure: Failure) -> bool {
        self.hang_up();
        self.through = None;
        let mut state = self.shared.lock();
        let failures = state.trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
        state.trouble = Some(Trouble { fault: failure.fault, failures, object: failure.object });
        self.shared.changed.notify_all();
        let until = Instant::now() + self.backoff.next_wait();
        while !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.trouble.is_none() {
                return true;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

/// One object from a body: exactly so many bytes, or, of a file of its own, at most so many and then its end.
fn read_object(
    connection: &mut Connection,
    depot: &Depot,
    bytes: usize,
    exact: bool,
) -> std::result::Result<Vec<u8>, Failure> {
    let mut object = Vec::with_capacity(bytes);
    while object.len() < bytes {
        match connection.body(depot, bytes - object.len())? {
            [] if exact => {
                let found = object.len();
                return Err(
                    fault!(Corrupt, "{depot}: a piece has {bytes} bytes, found {found} and the end").into()
                );
            }
            [] => break,
            more => object.extend_from_slice(more),
        }
    }
    Ok(object)
}

fn deliver(shared: &Shared, name: &Digest, object: Vec<u8>) {
    let mut state = shared.lock();
    state.stats.bytes += object.len() as u64;
    state.came(name, object);
    drop(state);
    shared.changed.notify_all();
}

fn put_back(state: &mut State, group: &Group) {
    for part in &group.parts {
        let asked = |item: &&mut Item| item.name == part.name && item.step == Step::Asked;
        if let Some(item) = state.items.iter_mut().find(asked) {
            item.step = Step::Waiting;
        }
    }
}
