// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IUniswapV3Pool
/// @notice What is used of a pool of Uniswap V3.
interface IUniswapV3Pool {
    function slot0()
        external
        view
        returns (
            uint160 sqrtPriceX96,
            int24 tick,
            uint16 observationIndex,
            uint16 observationCardinality,
            uint16 observationCardinalityNext,
            uint8 feeProtocol,
            bool unlocked
        );

    function liquidity() external view returns (uint128);

    function observe(uint32[] calldata secondsAgos)
        external
        view
        returns (int56[] memory tickCumulatives, uint160[] memory secondsPerLiquidityCumulativeX128s);

    function swap(address recipient, bool zeroForOne, int256 amount, uint160 sqrtPriceLimitX96, bytes calldata data)
        external
        returns (int256 amount0, int256 amount1);
}

/// @title IUniswapV3SwapCallback
/// @notice What a pool calls on who swaps, to be paid.
interface IUniswapV3SwapCallback {
    /// @notice Pays the pool that calls. A positive amount is what the pool is to get.
    function uniswapV3SwapCallback(int256 amount0, int256 amount1, bytes calldata data) external;
}
