//! Smoke.
use agent_core::{Env, Principal, Scope};
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::{Exec, Program, Runtime as _, SandboxExt as _, Spec};

#[tokio::test]
async fn hello() {
    let runtime = WasmRuntime::open(Config::new(Env::system())).unwrap();
    let program = Program::wasm("hello", include_bytes!("../guests/probe/hello.wasm").as_slice());
    let scope = Scope::new(Principal::host());
    let sandbox = runtime.launch(&scope, Spec::new(program)).await.unwrap();
    let output = sandbox.output(&scope, Exec::new()).await.unwrap();
    println!("{output:?} {:?}", runtime.probe().await);
    assert_eq!(output.stdout_lossy(), "hello from a guest\n");
    runtime.close().await.unwrap();
}
