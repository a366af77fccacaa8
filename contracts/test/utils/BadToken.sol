// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentManager} from "../../src/PaymentManager.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title BadToken
/// @notice A token that can be told to misbehave.
contract BadToken is ERC20 {
    enum Mode {
        Honest,
        Fee,
        Silent,
        BurnGas,
        Bomb,
        Reenter
    }

    Mode private _mode;
    PaymentManager private _target;

    constructor() ERC20("Bad", "BAD") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setMode(Mode mode, PaymentManager target) external {
        (_mode, _target) = (mode, target);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        if (_mode == Mode.Silent) return true;
        while (_mode == Mode.BurnGas) {}
        if (_mode == Mode.Bomb) {
            assembly {
                revert(0, 1000000)
            }
        }
        if (_mode == Mode.Reenter) _target.withdrawRefund(from, 2);
        bool ok = super.transferFrom(from, to, amount);
        if (_mode == Mode.Fee) _burn(to, amount / 100);
        return ok;
    }
}
