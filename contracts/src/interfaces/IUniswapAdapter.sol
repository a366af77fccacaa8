// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IUniswapAdapter
/// @notice Swaps tokens of the PaymentManager in pools of Uniswap V3, and says what a swap may cost by the mean price of
/// the last minutes. It has no state and keeps no token beyond a call.
/// @dev A path is 20 bytes of a token, and for each of up to 3 hops 3 bytes of a fee and 20 bytes of a token.
interface IUniswapAdapter {
    /// @dev The path is not 1 to 3 hops long.
    error BadPath(uint256 length);

    /// @dev A pool of the path does not exist.
    error NoPool(address tokenA, address tokenB, uint24 fee);

    /// @dev The pool remembers fewer than `want` observations, or none that is old enough.
    error RouteStale(address pool, uint256 have, uint256 want);

    /// @dev The price now is too far from the mean price; both as what the same amount costs.
    error PriceDeviation(uint256 spot, uint256 twap);

    /// @dev The pool had too little liquidity for this amount.
    error LowLiquidity(address pool, uint256 have, uint256 want);

    /// @dev The swap would cost more, or give less, than the caller allows.
    error SwapBound(uint256 amount, uint256 bound);

    /// @notice The factory of the pools; zero on a chain that has none.
    function factory() external view returns (address);

    /// @notice The only contract that swaps here.
    function payments() external view returns (address);

    /// @notice What `amountOut` of the last token of the path costs in the first at the mean price of `twapSec` seconds,
    /// with the pools' fees, rounded up. Reverts when the price cannot be trusted: the price now is more than 2 % off,
    /// the pool remembers too little, or the amount is more than 1 % of what the pool held.
    function quoteIn(bytes calldata path, uint256 amountOut, uint32 twapSec, uint16 minCardinality)
        external
        view
        returns (uint256 amountIn);

    /// @notice Buys exactly `amountOut` for at most `maxIn`, which this contract has got before, and gives back the rest.
    /// Only the PaymentManager.
    /// @return amountIn What was used.
    function buy(bytes calldata path, uint256 amountOut, uint256 maxIn, address to, address back)
        external
        returns (uint256 amountIn);

    /// @notice Sells exactly `amountIn`, which this contract has got before, for at least `minOut`. Only the
    /// PaymentManager.
    /// @return amountOut What `to` got.
    function sell(bytes calldata path, uint256 amountIn, uint256 minOut, address to)
        external
        returns (uint256 amountOut);
}
