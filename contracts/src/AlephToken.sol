// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAlephToken} from "./interfaces/IAlephToken.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title AlephToken
/// @notice See {IAlephToken}. No owner, no upgrade, no mint outside the gateway.
contract AlephToken is IAlephToken, ERC20, ERC20Permit, ERC20Burnable {
    /* CONSTANTS */

    /// @inheritdoc IAlephToken
    address public immutable gateway;

    /// @inheritdoc IAlephToken
    address public immutable l1Address;

    /* SETUP */

    /// @param gateway_ The only account that mints.
    /// @param l1Address_ The token on the parent chain; zero on a network without one.
    constructor(address gateway_, address l1Address_) ERC20("Aleph", "ALEPH") ERC20Permit("Aleph") {
        if (gateway_ == address(0)) revert AlephErrors.ZeroAddress();
        gateway = gateway_;
        l1Address = l1Address_;
    }

    modifier onlyGateway() {
        if (msg.sender != gateway) revert OnlyGateway(msg.sender);
        _;
    }

    /* BRIDGE */

    /// @inheritdoc IAlephToken
    function bridgeMint(address account, uint256 amount) external onlyGateway {
        _mint(account, amount);
    }

    /// @inheritdoc IAlephToken
    function bridgeBurn(address account, uint256 amount) external onlyGateway {
        _burn(account, amount);
    }
}
