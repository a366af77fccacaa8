// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Burning
/// @notice Takes tokens of the caller's out of the world.
library Burning {
    using SafeERC20 for IERC20;

    /// @dev Where tokens go that cannot be burned: a bridge's standard token has no function for it.
    address private constant _GRAVE = 0x000000000000000000000000000000000000dEaD;

    /// @notice Burns `amount`, or puts it where nobody gets it.
    function burn(address token, uint256 amount) internal {
        try ERC20Burnable(token).burn(amount) {}
        catch {
            IERC20(token).safeTransfer(_GRAVE, amount);
        }
    }
}
