//! Instructions put together with jumps to labels.

use super::super::ancillary::Ancillary;
use super::super::instruction::{Instruction, Operation, Register};

/// A place in the program, known once it is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

#[derive(Debug, Clone, Copy)]
enum Item {
    /// Anything that does not jump.
    Plain(Instruction),
    /// A comparison, and where it goes.
    Branch(Instruction, Label, Label),
    Jump(Label),
}

/// A program in the making. Jumps lead forwards only.
#[derive(Debug, Default)]
pub struct Assembler {
    items: Vec<Item>,
    /// Where each label is: before this item.
    places: Vec<usize>,
}

const UNBOUND: usize = usize::MAX;
const JUMP: u16 = 0x05;
const LOAD_CONSTANT: u16 = 0x00;

impl Assembler {
    pub fn label(&mut self) -> Label {
        self.places.push(UNBOUND);
        Label(self.places.len().saturating_sub(1))
    }

    /// The label is here.
    pub fn bind(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = self.items.len();
        }
    }

    pub fn plain(&mut self, code: u16, k: u32) {
        self.items.push(Item::Plain(Instruction::new(code, 0, 0, k)));
    }

    pub fn jump(&mut self, to: Label) {
        self.items.push(Item::Jump(to));
    }

    pub fn branch(&mut self, code: u16, k: u32, holds: Label, fails: Label) {
        self.items.push(Item::Branch(Instruction::new(code, 0, 0, k), holds, fails));
    }

    /// A whole program, where A is no longer the 0 that programs start with.
    pub fn fresh_program(&mut self, program: &[Instruction]) {
        if !program.first().is_some_and(|first| forgets_a(*first)) {
            self.plain(LOAD_CONSTANT, 0);
        }
        self.program(program);
    }

    /// A whole program, whose jumps stay within it.
    fn program(&mut self, program: &[Instruction]) {
        let labels: Vec<Label> = program.iter().map(|_| self.label()).collect();
        let after = |index: usize, skip: u32| {
            labels.get(index.saturating_add(1).saturating_add(skip as usize)).copied()
        };
        for (index, instruction) in program.iter().enumerate() {
            if let Some(label) = labels.get(index) {
                self.bind(*label);
            }
            match instruction.operation() {
                Some(Operation::Jump(k)) => {
                    if let Some(to) = after(index, k) {
                        self.jump(to);
                    }
                }
                Some(Operation::Branch(_, _, jt, jf)) => {
                    if let (Some(holds), Some(fails)) =
                        (after(index, jt.into()), after(index, jf.into()))
                    {
                        self.branch(instruction.code, instruction.k, holds, fails);
                    }
                }
                _ => self.plain(instruction.code, instruction.k),
            }
        }
    }

    /// The item a label stands for, jumps followed.
    fn target(&self, label: Label) -> usize {
        let mut at = self.places.get(label.0).copied().unwrap_or(UNBOUND);
        // Forwards only, so this ends.
        while let Some(Item::Jump(to)) = self.items.get(at) {
            at = self.places.get(to.0).copied().unwrap_or(UNBOUND);
        }
        at
    }

    /// Which items a packet can get to.
    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.items.len()];
        let mark = |at: usize, reached: &mut Vec<bool>| {
            if let Some(reached) = reached.get_mut(at) {
                *reached = true;
            }
        };
        mark(0, &mut reached);
        for (at, item) in self.items.iter().enumerate() {
            if !reached.get(at).copied().unwrap_or(false) {
                continue;
            }
            match item {
                Item::Plain(instruction) => {
                    if !is_return(*instruction) {
                        mark(at.saturating_add(1), &mut reached);
                    }
                }
                Item::Branch(_, holds, fails) => {
                    mark(self.target(*holds), &mut reached);
                    mark(self.target(*fails), &mut reached);
                }
                Item::Jump(to) => mark(self.target(*to), &mut reached),
            }
        }
        reached
    }

    /// Takes out what no packet gets to, and jumps to where they stand.
    fn kept(&self) -> Vec<bool> {
        let mut kept = self.reached();
        for at in (0..self.items.len()).rev() {
            if let Some(Item::Jump(to)) = self.items.get(at) {
                let target = self.target(*to);
                let between = kept.get(at.saturating_add(1)..target).unwrap_or(&[true]);
                if !between.contains(&true) {
                    if let Some(kept) = kept.get_mut(at) {
                        *kept = false;
                    }
                }
            }
        }
        kept
    }

    /// A jump to the next item, which costs nothing.
    fn nothing(&mut self, at: usize) {
        self.places.push(at.saturating_add(1));
        let next = Label(self.places.len().saturating_sub(1));
        if let Some(item) = self.items.get_mut(at) {
            *item = Item::Jump(next);
        }
    }

    /// Takes out what decides nothing: comparisons that go one way, and loads of
    /// a tag, which cannot fail, that nothing looks at. Backwards, so that one
    /// makes room for the next.
    fn tidy(&mut self) {
        for at in (0..self.items.len()).rev() {
            match self.items.get(at).copied() {
                Some(Item::Branch(_, holds, fails)) if self.target(holds) == self.target(fails) => {
                    if let Some(item) = self.items.get_mut(at) {
                        *item = Item::Jump(holds);
                    }
                }
                Some(Item::Plain(instruction)) if loads_tag(instruction) => {
                    let mut next = at.saturating_add(1);
                    while let Some(Item::Jump(to)) = self.items.get(next) {
                        next = self.target(*to);
                    }
                    if let Some(Item::Plain(then)) = self.items.get(next) {
                        if forgets_a(*then) {
                            self.nothing(at);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The instructions. A comparison whose target is too far for its 8 bits goes
    /// there by a jump.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.tidy();
        let kept = self.kept();
        let is_kept = |at: usize| kept.get(at).copied().unwrap_or(false);
        let mut far = vec![(false, false); self.items.len()];
        loop {
            // Where each item begins.
            let mut starts = Vec::with_capacity(self.items.len());
            let mut next = 0_usize;
            for at in 0..self.items.len() {
                starts.push(next);
                let (one, other) = far.get(at).copied().unwrap_or_default();
                let size = 1_usize.saturating_add(one.into()).saturating_add(other.into());
                next = next.saturating_add(if is_kept(at) { size } else { 0 });
            }
            let start = |at: usize| starts.get(at).copied().unwrap_or(next);
            let skip = |at: usize, label: Label| {
                start(self.target(label)).saturating_sub(start(at)).saturating_sub(1)
            };
            let mut changed = false;
            for (at, item) in self.items.iter().enumerate() {
                let Item::Branch(_, holds, fails) = item else { continue };
                let Some((one, other)) = far.get_mut(at) else { continue };
                for (label, far) in [(holds, one), (fails, other)] {
                    if is_kept(at) && !*far && skip(at, *label) > usize::from(u8::MAX) {
                        (*far, changed) = (true, true);
                    }
                }
            }
            if changed {
                continue;
            }
            let mut out = Vec::with_capacity(next);
            for (at, item) in self.items.iter().enumerate().filter(|(at, _)| is_kept(*at)) {
                match item {
                    Item::Plain(instruction) => out.push(*instruction),
                    Item::Jump(to) => out.push(jump(skip(at, *to))),
                    Item::Branch(instruction, holds, fails) => {
                        let (one, other) = far.get(at).copied().unwrap_or_default();
                        let near = |far: bool, label: Label, by: u8| {
                            if far { by } else { u8::try_from(skip(at, label)).unwrap_or(u8::MAX) }
                        };
                        let mut branch = *instruction;
                        branch.jt = near(one, *holds, 0);
                        branch.jf = near(other, *fails, u8::from(one));
                        out.push(branch);
                        // Each jump starts one further on.
                        if one {
                            out.push(jump(skip(at, *holds).saturating_sub(1)));
                        }
                        if other {
                            let before = 1_usize.saturating_add(one.into());
                            out.push(jump(skip(at, *fails).saturating_sub(before)));
                        }
                    }
                }
            }
            return out;
        }
    }
}

fn is_return(instruction: Instruction) -> bool {
    matches!(
        instruction.operation(),
        Some(Operation::ReturnConstant(_) | Operation::ReturnA) | None
    )
}

fn loads_tag(instruction: Instruction) -> bool {
    let Some(Operation::LoadAbsolute(_, k)) = instruction.operation() else { return false };
    matches!(
        Ancillary::from_constant(k),
        Some(Ancillary::VlanTag | Ancillary::VlanTpid | Ancillary::VlanTagPresent)
    )
}

/// Whether what is in A does not matter before this instruction.
fn forgets_a(instruction: Instruction) -> bool {
    match instruction.operation() {
        Some(Operation::LoadAbsolute(_, k)) => Ancillary::from_constant(k) != Some(Ancillary::XorX),
        Some(
            Operation::LoadIndirect(..)
            | Operation::LoadLength(Register::A)
            | Operation::LoadConstant(Register::A, _)
            | Operation::LoadMemory(Register::A, _)
            | Operation::CopyXToA
            | Operation::ReturnConstant(_),
        ) => true,
        _ => false,
    }
}

fn jump(skip: usize) -> Instruction {
    Instruction::new(JUMP, 0, 0, u32::try_from(skip).unwrap_or(u32::MAX))
}
