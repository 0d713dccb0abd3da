//! A boot order: words separated by spaces. Words that are no group (RAUC's rescue slot, say) stay, at the end.

use crate::Result;
use mainstay_core::boot::Group;
use mainstay_core::fault;

/// A boot order that names no group twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    groups: Vec<Group>,
    others: Vec<String>,
}

impl Order {
    /// Reads the variable `name`. `others`: may there be words that are no group?
    pub fn read(name: &str, text: &str, others: bool) -> Result<Order> {
        let order = Order::read_leniently(text);
        let repeated = text.split_ascii_whitespace().filter(|w| Group::from_name(w).is_some()).count()
            > order.groups.len();
        if repeated || (!others && !order.others.is_empty()) {
            return Err(fault!(
                Corrupt,
                "boot variable {name}: expected A and B, each at most once, found \"{text}\""
            ));
        }
        Ok(order)
    }

    /// Reads as a boot script does: of a group that stands there twice the first counts.
    pub fn read_leniently(text: &str) -> Order {
        let mut order = Order { groups: Vec::new(), others: Vec::new() };
        for word in text.split_ascii_whitespace() {
            match Group::from_name(word) {
                Some(group) if order.groups.contains(&group) => {}
                Some(group) => order.groups.push(group),
                None => order.others.push(word.to_owned()),
            }
        }
        order
    }

    /// `group` first, the other behind it if it is there.
    pub fn with_first(mut self, group: Group) -> Order {
        self.groups.retain(|g| *g != group);
        self.groups.insert(0, group);
        self
    }

    /// Without `group`.
    pub fn without(mut self, group: Group) -> Order {
        self.groups.retain(|g| *g != group);
        self
    }

    /// The groups, first to last.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// 2: first, 1: second, 0: not in it.
    pub fn priority(&self, group: Group) -> u8 {
        match self.groups.iter().position(|g| *g == group) {
            Some(0) => 2,
            Some(_) => 1,
            None => 0,
        }
    }

    /// As the variable holds it.
    pub fn text(&self) -> String {
        let groups = self.groups.iter().map(|g| g.name());
        groups.chain(self.others.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }
}
