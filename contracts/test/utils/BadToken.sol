// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title BadToken
/// @notice A token that can be told to misbehave, in each way that tokens on public chains do.
contract BadToken is ERC20 {
    enum Mode {
        Honest,
        // Takes a part of what it moves.
        Fee,
        // Says yes and moves nothing.
        Silent,
        // Uses all gas it gets.
        BurnGas,
        // Reverts with a megabyte.
        Bomb,
        // Calls back while it moves.
        Reenter,
        // Says no and moves nothing.
        No,
        // Moves and says nothing.
        Mute,
        // Moves nothing to or from whoever is blocked.
        Block,
        // Moves, and everybody has a tenth less of it.
        Shrink
    }

    Mode public mode;
    uint8 private immutable _decimals;
    address private _target;
    bytes private _call;
    mapping(address who => bool) public blocked;
    uint256 private _tenths = 10;

    constructor(uint8 decimals_) ERC20("Bad", "BAD") {
        _decimals = decimals_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setMode(Mode mode_) external {
        mode = mode_;
    }

    /// @dev What to call in the middle of a transfer.
    function setCall(address target, bytes calldata data) external {
        (_target, _call) = (target, data);
    }

    function setBlocked(address who, bool yes) external {
        blocked[who] = yes;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function balanceOf(address who) public view override returns (uint256) {
        return super.balanceOf(who) * _tenths / 10;
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        if (_before(from, to)) return mode == Mode.Silent;
        super.transferFrom(from, to, amount);
        return _after(to, amount);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (_before(msg.sender, to)) return mode == Mode.Silent;
        super.transfer(to, amount);
        return _after(to, amount);
    }

    /// @return done Whether that was all.
    function _before(address from, address to) private returns (bool done) {
        if (mode == Mode.Silent || mode == Mode.No) return true;
        while (mode == Mode.BurnGas) {}
        if (mode == Mode.Bomb) {
            assembly {
                revert(0, 1000000)
            }
        }
        require(mode != Mode.Block || !(blocked[from] || blocked[to]), "blocked");
        if (mode == Mode.Reenter) {
            (bool ok, bytes memory err) = _target.call(_call);
            if (!ok) {
                assembly {
                    revert(add(err, 0x20), mload(err))
                }
            }
        }
        return false;
    }

    function _after(address to, uint256 amount) private returns (bool) {
        if (mode == Mode.Fee) _burn(to, amount / 100);
        if (mode == Mode.Shrink) _tenths = 9;
        if (mode == Mode.Mute) {
            assembly {
                return(0, 0)
            }
        }
        return true;
    }
}
