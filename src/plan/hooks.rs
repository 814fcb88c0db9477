//! Hooks: those that the host runs, and those that init runs as steps.

use super::image::{Image, environment};
use super::step::{HookStep, Step};
use crate::error::Result;
use crate::spec::check_hook;
use oci_spec::runtime::{Hook, Spec};

/// A hook that the host runs.
#[derive(Debug)]
pub struct Planned {
    /// Kind and index, for messages: `prestart hook #0`.
    pub name: String,
    /// The program.
    pub image: Image,
    /// The bundle gives it no environment, so it inherits the runtime's, as with runc.
    pub inherits: bool,
    /// Time limit in seconds, if any.
    pub timeout: Option<u32>,
}

/// The hooks that run in the runtime's namespaces.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Before the pivot: `prestart`, then `createRuntime`.
    pub runtime: Vec<Planned>,
    /// After the payload has started.
    pub poststart: Vec<Planned>,
}

fn image(at: &str, hook: &Hook, inherited: &[&str]) -> Result<Image> {
    let env: Vec<&str> = match hook.env() {
        Some(env) => environment(env.iter().map(String::as_str)),
        None => inherited.to_vec(),
    };
    Image::fixed(at, &hook.path().to_string_lossy(), hook.args().as_deref().unwrap_or_default(), &env)
}

/// Plans a list of hooks that the host runs.
///
/// # Errors
/// A path that is not absolute, a timeout that is not positive.
pub fn host(kind: &str, list: Option<&[Hook]>) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    for (i, hook) in list.unwrap_or_default().iter().enumerate() {
        let at = format!("hooks.{kind}[{i}]");
        let name = format!("{kind} hook #{i}");
        let timeout = check_hook(hook, &at)?;
        let inherits = hook.env().is_none();
        planned.push(Planned { name, image: image(&at, hook, &[])?, inherits, timeout });
    }
    Ok(planned)
}

/// Plans the hooks of a container that the host runs.
///
/// # Errors
/// As [`host`].
pub fn of(spec: &Spec) -> Result<Hooks> {
    let Some(hooks) = spec.hooks() else { return Ok(Hooks::default()) };
    #[allow(deprecated)]
    let mut runtime = host("prestart", hooks.prestart().as_deref())?;
    runtime.extend(host("createRuntime", hooks.create_runtime().as_deref())?);
    host("poststop", hooks.poststop().as_deref())?; // `delete` reads it from the record; here it is only checked
    Ok(Hooks { runtime, poststart: host("poststart", hooks.poststart().as_deref())? })
}

/// Plans a list of hooks that init runs. A hook without an environment gets `inherited`. `appends`: see [`HookStep`].
///
/// # Errors
/// As [`host`].
pub(super) fn inside(kind: &str, list: Option<&[Hook]>, inherited: &[&str], appends: [bool; 2]) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (i, hook) in list.unwrap_or_default().iter().enumerate() {
        let at = format!("hooks.{kind}[{i}]");
        let name = format!("{kind} hook #{i}");
        let timeout = check_hook(hook, &at)?;
        let image = image(&at, hook, inherited)?;
        let late = kind == "startContainer";
        let inherits = late && hook.env().is_none();
        steps.push(Step::Hook(Box::new(HookStep { name, image, timeout, late, inherits, appends })));
    }
    Ok(steps)
}
