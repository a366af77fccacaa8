// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Suite} from "../utils/Suite.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @title GasBench
/// @notice Measures calls as whole transactions: release bytecode, behind proxies, cold, base fee and calldata included.
/// Fails when a figure is more than 2 % above the one in snapshots/<bench>.json; with WRITE_GAS=true the file is written
/// instead. The calldata goes to out/calldata/<bench>.json, so that the table can tell what it costs as L1 data.
/// @dev Runs with --isolate, which makes each top-level call a transaction of its own.
abstract contract GasBench is Suite {
    string private _json;
    string private _data;
    string private _committed;
    bool private _write;
    bool private _recording;

    /// @dev The name of the snapshot file.
    function _bench() internal pure virtual returns (string memory);

    /// @dev Makes the calls and records each.
    function _measure() internal virtual;

    function _code(string memory name) internal view virtual override returns (bytes memory) {
        return vm.getCode(string.concat("out/release/", name, ".sol/", name, ".json"));
    }

    function test_gas() public {
        string memory file = string.concat("snapshots/", _bench(), ".json");
        _json = "{\n";
        _write = vm.envOr("WRITE_GAS", false);
        if (!_write) _committed = vm.readFile(file);
        uint256 start = vm.snapshotState();
        _measure();
        if (_write) vm.writeFile(file, string.concat(_json, "\n}\n"));

        // Once more for the calldata: recording it takes the isolation away that the gas needs.
        vm.revertToState(start);
        (_recording, _data) = (true, "{\n");
        vm.startStateDiffRecording();
        _measure();
        vm.createDir("out/calldata", true);
        vm.writeFile(string.concat("out/calldata/", _bench(), ".json"), string.concat(_data, "\n}\n"));
    }

    /// @dev Records the call before, under `name`. `target` is the most it should take; 0 when nothing sets one.
    function _record(string memory name, uint256 target) internal {
        _recordEach(name, target, 1);
    }

    /// @dev Records the call before, a batch of `n`, as the gas of each of them.
    function _recordEach(string memory name, uint256 target, uint256 n) internal {
        if (_recording) {
            string memory next = bytes(_data).length > 2 ? ",\n" : "";
            _data = string.concat(_data, next, '  "', name, '": "', vm.toString(_calldata()), '"');
            return;
        }
        uint256 gas = uint256(vm.lastCallGas().gasTotalUsed) / n;
        string memory comma = bytes(_json).length > 2 ? ",\n" : "";
        _json = string.concat(_json, comma, '  "', name, '": {"gas": ', vm.toString(gas));
        _json = string.concat(_json, ', "target": ', vm.toString(target), ', "items": ', vm.toString(n), "}");
        if (_write) return;
        uint256 before = vm.parseJsonUint(_committed, string.concat("['", name, "'].gas"));
        assertLe(gas, before + before / 50, name);
    }

    /// @dev The calldata of the last call that this contract made to one of the proxies.
    function _calldata() private returns (bytes memory data) {
        VmSafe.AccountAccess[] memory all = vm.stopAndReturnStateDiff();
        vm.startStateDiffRecording();
        for (uint256 i = all.length; i > 0; --i) {
            VmSafe.AccountAccess memory a = all[i - 1];
            if (a.kind == VmSafe.AccountAccessKind.Call && a.depth <= 1 && a.data.length >= 4) return a.data;
        }
    }
}
