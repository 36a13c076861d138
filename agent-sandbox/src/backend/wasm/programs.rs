//! Compiled programs: each is compiled once, kept in memory within a bound, and on disk if there is
//! a cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::{ExternType, Module};

use agent_core::Env;

use crate::backend::wasm::disk::{Disk, EntryName};
use crate::backend::wasm::engine::Kit;
use crate::backend::wasm::preview1;
use crate::backend::wasm::run::Compiled;
use crate::backend::wasm::trusted;
use crate::error::{Error, Result};
use crate::spec::Program;

/// What a compiled program is known by: its digest and whether fuel is metered.
type Key = ([u8; 32], bool);

/// Holds the compiled program; locked while it is compiled, so that this happens once.
type Cell = Arc<Mutex<Option<Arc<Compiled>>>>;

#[derive(Debug, Default)]
struct Kept {
    cells: BTreeMap<Key, (Cell, u64)>,
    /// Counts uses, to find the program that was not used for longest.
    uses: u64,
}

/// Compiled programs.
#[derive(Debug)]
pub(super) struct Programs {
    kept: Mutex<Kept>,
    programs_max: usize,
    program_bytes_max: usize,
    disk: Option<Disk>,
    env: Env,
}

impl Programs {
    pub(super) fn new(
        programs_max: usize,
        program_bytes_max: usize,
        disk: Option<Disk>,
        env: Env,
    ) -> Self {
        Self {
            kept: Mutex::default(),
            programs_max,
            program_bytes_max,
            disk,
            env,
        }
    }

    fn cell(&self, key: Key) -> Cell {
        let mut kept = self.kept.lock();
        kept.uses = kept.uses.saturating_add(1);
        let uses = kept.uses;
        let (cell, used) = kept.cells.entry(key).or_default();
        *used = uses;
        let cell = Arc::clone(cell);
        while kept.cells.len() > self.programs_max.max(1) {
            let oldest = kept
                .cells
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            kept.cells.remove(&oldest);
        }
        cell
    }

    /// Returns a program that is in memory, without waiting.
    pub(super) fn ready(&self, program: &Program, fuel: bool) -> Option<Arc<Compiled>> {
        let cell = self.cell((*program.digest(), fuel));
        let compiled = cell.try_lock()?;
        compiled.clone()
    }

    /// Returns a program, compiled first if need be. It may take long.
    pub(super) fn compile(
        &self,
        kit: &Kit,
        program: &Program,
        fuel: bool,
    ) -> Result<Arc<Compiled>> {
        let cell = self.cell((*program.digest(), fuel));
        let mut slot = cell.lock();
        if let Some(compiled) = slot.as_ref() {
            return Ok(Arc::clone(compiled));
        }
        let module = self.module(kit, program)?;
        let compiled = Arc::new(link(kit, program, &module)?);
        *slot = Some(Arc::clone(&compiled));
        Ok(compiled)
    }

    fn module(&self, kit: &Kit, program: &Program) -> Result<Module> {
        if program.bytes().len() > self.program_bytes_max {
            let reason = format!("it has more than {} bytes", self.program_bytes_max);
            return Err(Error::invalid_program(program.name(), reason));
        }
        let name = EntryName::new(program.digest(), &kit.fingerprint);
        let authentic = self.disk.as_ref().and_then(|disk| disk.read(name));
        if let Some(module) = authentic.and_then(|code| trusted::load(&kit.engine, &code).ok()) {
            return Ok(module);
        }
        let module = Module::from_binary(&kit.engine, program.bytes())
            .map_err(|error| Error::invalid_program(program.name(), format!("{error:#}")))?;
        if let Some(disk) = &self.disk {
            let stored = module
                .serialize()
                .map_err(|error| error.to_string())
                .and_then(|code| {
                    let written = disk.write(name, &code, self.env.entropy.as_ref());
                    written.map_err(|error| error.to_string())
                });
            // The program runs all the same; the next process compiles it again.
            if let Err(reason) = stored {
                tracing::warn!(
                    program = program.name(),
                    reason,
                    "cannot cache compiled program"
                );
            }
        }
        Ok(module)
    }
}

/// Checks that a module is a command without foreign imports, and links it.
fn link(kit: &Kit, program: &Program, module: &Module) -> Result<Compiled> {
    let invalid = |reason: &str| Error::invalid_program(program.name(), reason);
    for import in module.imports() {
        let known = import.module() == preview1::MODULE
            && matches!(import.ty(), ExternType::Func(_))
            && preview1::FUNCTIONS.contains(&import.name());
        if !known {
            return Err(Error::UnsupportedImport {
                program: program.name().to_owned(),
                module: import.module().to_owned(),
                name: import.name().to_owned(),
            });
        }
    }
    match module.get_export("_start") {
        Some(ExternType::Func(start))
            if start.params().len() == 0 && start.results().len() == 0 => {}
        Some(_) => return Err(invalid("its `_start` takes or returns values")),
        None => return Err(invalid("it exports no `_start`, so it is not a command")),
    }
    let start = module
        .get_export_index("_start")
        .ok_or_else(|| invalid("it exports no `_start`"))?;
    let memory = match module.get_export("memory") {
        Some(ExternType::Memory(_)) => module.get_export_index("memory"),
        _ => None,
    };
    let pre = kit
        .linker
        .instantiate_pre(module)
        .map_err(|error| invalid(&format!("{error:#}")))?;
    Ok(Compiled { pre, start, memory })
}
