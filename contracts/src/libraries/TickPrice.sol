// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AlephErrors} from "./AlephErrors.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title TickPrice
/// @notice The price that a tick of Uniswap V3 stands for: 1.0001^tick of token1 for one of token0, as the square root
/// scaled by 2^96.
library TickPrice {
    /// @dev The highest and lowest tick of a pool.
    uint256 private constant _MAX = 887_272;

    /// @dev 2^128 * 1.0001^(-2^i / 2) for i = 0 to 19, 16 bytes each, computed with 120 digits and rounded down.
    bytes private constant _POWERS =
        (hex"fffcb933bd6fad37aa2d162d1a594001fff97272373d413259a46990580e213a"
        hex"fff2e50f5f656932ef12357cf3c7fdccffe5caca7e10e4e61c3624eaa0941cd0"
        hex"ffcb9843d60f6159c9db58835c926644ff973b41fa98c081472e6896dfb254c0"
        hex"ff2ea16466c96a3843ec78b326b52861fe5dee046a99a2a811c461f1969c3053"
        hex"fcbe86c7900a88aedcffc83b479aa3a4f987a7253ac413176f2b074cf7815e54"
        hex"f3392b0822b70005940c7a398e4b70f3e7159475a2c29b7443b29c7fa6e889d9"
        hex"d097f3bdfd2022b8845ad8f792aa5825a9f746462d870fdf8a65dc1f90e061e5"
        hex"70d869a156d2a1b890bb3df62baf32f731be135f97d08fd981231505542fcfa6"
        hex"09aa508b5b7a84e1c677de54f3e99bc9005d6af8dedb81196699c329225ee604"
        hex"00002216e584f5fa1ea926041bedfe9800000000048a170391f7dc42444e8fa2");

    /// @notice The square root of the price at a tick, scaled by 2^96.
    function sqrtAt(int256 tick) internal pure returns (uint256 root) {
        uint256 n = tick < 0 ? uint256(-tick) : uint256(tick);
        if (n > _MAX) revert AlephErrors.OutOfBounds(n, 0, _MAX);
        bytes memory powers = _POWERS;
        root = 1 << 128;
        for (uint256 i; n >> i != 0; ++i) {
            if ((n >> i) & 1 == 0) continue;
            uint256 power;
            assembly ("memory-safe") {
                power := shr(128, mload(add(add(powers, 0x20), mul(i, 16))))
            }
            root = (root * power) >> 128;
        }
        // The root is that of the price at -n; below 2^128 unless n is 0.
        if (tick > 0) root = type(uint256).max / root;
        root >>= 32;
    }

    /// @notice What `amountOut` of one token costs in the other, rounded up.
    /// @param root The square root of the price of token0 in token1.
    /// @param zeroIn Whether token0 is given for token1.
    function costOf(uint256 amountOut, uint256 root, bool zeroIn) internal pure returns (uint256) {
        (uint256 up, uint256 down) = zeroIn ? (uint256(1 << 96), root) : (root, uint256(1 << 96));
        uint256 half = Math.mulDiv(amountOut, up, down, Math.Rounding.Ceil);
        return Math.mulDiv(half, up, down, Math.Rounding.Ceil);
    }
}
