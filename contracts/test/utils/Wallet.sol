// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Wallet
/// @notice A contract that pays: it accepts the signatures of one key, or misbehaves.
contract Wallet is IERC1271 {
    enum Mode {
        Honest,
        Garbage,
        BurnGas
    }

    address private immutable _signer;
    Mode private _mode;

    constructor(address signer) {
        _signer = signer;
    }

    function setMode(Mode mode) external {
        _mode = mode;
    }

    function approve(IERC20 token, address spender) external {
        token.approve(spender, type(uint256).max);
    }

    function isValidSignature(bytes32 digest, bytes calldata sig) external view returns (bytes4) {
        if (_mode == Mode.Garbage) {
            assembly {
                return(0, 100000)
            }
        }
        while (_mode == Mode.BurnGas) {}
        return ECDSA.recoverCalldata(digest, sig) == _signer ? IERC1271.isValidSignature.selector : bytes4(0);
    }
}
