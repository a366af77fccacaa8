// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IUniswapAdapter} from "./interfaces/IUniswapAdapter.sol";
import {IUniswapV3Pool, IUniswapV3SwapCallback} from "./interfaces/IUniswapV3Pool.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {TickPrice} from "./libraries/TickPrice.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title UniswapAdapter
/// @notice See {IUniswapAdapter}. It talks to the pools directly: a pool's address follows from its tokens and its fee, so
/// that no other contract can pass for one.
contract UniswapAdapter is IUniswapAdapter, IUniswapV3SwapCallback {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /* TYPES */

    /// @dev One hop of a path, in the direction of the path.
    struct Hop {
        address tokenIn;
        address tokenOut;
        uint24 fee;
        address pool;
        bool zeroIn;
    }

    /* CONSTANTS */

    /// @inheritdoc IUniswapAdapter
    address public immutable factory;

    /// @inheritdoc IUniswapAdapter
    address public immutable payments;

    /// @dev The hash of the creation code of Uniswap's pools; the same on every chain they are on.
    bytes32 private constant _POOL_CODE = 0xe34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54;

    /// @dev The bounds of the square root of a price, within which a pool swaps without a limit.
    uint160 private constant _LOWEST = 4_295_128_739 + 1;
    uint160 private constant _HIGHEST = 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342 - 1;

    uint256 private constant _BPS = 10_000;

    /// @dev How far the price now may be from the mean price.
    uint256 private constant _DEVIATION_BPS = 200;

    /// @dev The part of a pool that one swap may take, so that the swap itself hardly moves the price: a hundredth.
    uint256 private constant _DEPTH = 100;

    /// @dev Pools count fees in parts of this.
    uint256 private constant _FEE_UNIT = 1_000_000;

    /// @dev The lengths in a path: a token, a hop, and its hops.
    uint256 private constant _TOKEN = 20;
    uint256 private constant _HOP = 23;
    uint256 private constant _MAX_HOPS = 3;

    /* SETUP */

    constructor(address factory_, address payments_) {
        if (payments_ == address(0)) revert AlephErrors.ZeroAddress();
        (factory, payments) = (factory_, payments_);
    }

    modifier onlyPayments() {
        if (msg.sender != payments) revert AlephErrors.NotAuthorized(msg.sender);
        _;
    }

    /* SWAPS */

    /// @inheritdoc IUniswapAdapter
    function buy(bytes calldata path, uint256 amountOut, uint256 maxIn, address to, address back)
        external
        onlyPayments
        returns (uint256 amountIn)
    {
        uint256 hops = _hops(path);
        IERC20 token = IERC20(_hop(path, 0).tokenIn);
        uint256 have = token.balanceOf(address(this));
        _buy(path, hops - 1, amountOut, to);
        uint256 left = token.balanceOf(address(this));
        amountIn = have - left;
        if (amountIn > maxIn) revert SwapBound(amountIn, maxIn);
        if (left != 0) token.safeTransfer(back, left);
    }

    /// @inheritdoc IUniswapAdapter
    function sell(bytes calldata path, uint256 amountIn, uint256 minOut, address to)
        external
        onlyPayments
        returns (uint256 amountOut)
    {
        uint256 hops = _hops(path);
        amountOut = amountIn;
        for (uint256 i; i < hops; ++i) {
            amountOut = _sell(path, i, amountOut, i + 1 == hops ? to : address(this));
        }
        if (amountOut < minOut) revert SwapBound(amountOut, minOut);
    }

    /// @inheritdoc IUniswapV3SwapCallback
    function uniswapV3SwapCallback(int256 amount0, int256 amount1, bytes calldata data) external {
        (bytes memory path, uint256 index, bool selling) = abi.decode(data, (bytes, uint256, bool));
        Hop memory hop = _hop(path, index);
        if (msg.sender != hop.pool) revert AlephErrors.NotAuthorized(msg.sender);
        uint256 due = uint256(amount0 > 0 ? amount0 : amount1);
        // What a pool wants for the last token of the path, the pool before sells.
        if (index == 0 || selling) IERC20(hop.tokenIn).safeTransfer(hop.pool, due);
        else _buy(path, index - 1, due, hop.pool);
    }

    /* VIEWS */

    /// @inheritdoc IUniswapAdapter
    function quoteIn(bytes calldata path, uint256 amountOut, uint32 twapSec, uint16 minCardinality)
        external
        view
        returns (uint256 amountIn)
    {
        amountIn = amountOut;
        for (uint256 i = _hops(path); i > 0; --i) {
            amountIn = _quoteHop(_hop(path, i - 1), amountIn, twapSec, minCardinality);
        }
    }

    /* INTERNAL: SWAPS */

    function _buy(bytes memory path, uint256 index, uint256 amountOut, address to) private {
        Hop memory hop = _hop(path, index);
        (, uint256 got) = _swap(hop, -amountOut.toInt256(), to, abi.encode(path, index, false));
        if (got < amountOut) revert LowLiquidity(hop.pool, got, amountOut);
    }

    function _sell(bytes memory path, uint256 index, uint256 amountIn, address to) private returns (uint256 got) {
        Hop memory hop = _hop(path, index);
        uint256 used;
        (used, got) = _swap(hop, amountIn.toInt256(), to, abi.encode(path, index, true));
        if (used < amountIn) revert LowLiquidity(hop.pool, used, amountIn);
    }

    /// @param amount What to sell, or with a minus what to buy.
    function _swap(Hop memory hop, int256 amount, address to, bytes memory data)
        private
        returns (uint256 used, uint256 got)
    {
        (int256 amount0, int256 amount1) =
            IUniswapV3Pool(hop.pool).swap(to, hop.zeroIn, amount, hop.zeroIn ? _LOWEST : _HIGHEST, data);
        (int256 in_, int256 out) = hop.zeroIn ? (amount0, amount1) : (amount1, amount0);
        (used, got) = (uint256(in_), uint256(-out));
    }

    /* INTERNAL: PRICES */

    /// @dev What `amountOut` of the hop costs at the mean price, after the checks that make it worth trusting.
    function _quoteHop(Hop memory hop, uint256 amountOut, uint32 twapSec, uint16 minCardinality)
        private
        view
        returns (uint256 amountIn)
    {
        _checkPool(hop);
        (uint160 spotRoot,,, uint16 cardinality,,,) = IUniswapV3Pool(hop.pool).slot0();
        if (cardinality < minCardinality) revert RouteStale(hop.pool, cardinality, minCardinality);
        (uint256 root, uint256 liquidity) = _mean(hop.pool, twapSec);

        amountIn = TickPrice.costOf(amountOut, root, hop.zeroIn);
        uint256 spot = TickPrice.costOf(amountOut, spotRoot, hop.zeroIn);
        uint256 off = spot > amountIn ? spot - amountIn : amountIn - spot;
        // Amounts of a few wei are a wei off by rounding.
        if (off > amountIn * _DEVIATION_BPS / _BPS + 2) revert PriceDeviation(spot, amountIn);

        uint256 depth = hop.zeroIn ? Math.mulDiv(liquidity, root, 1 << 96) : Math.mulDiv(liquidity, 1 << 96, root);
        if (depth / _DEPTH < amountOut) revert LowLiquidity(hop.pool, depth, amountOut * _DEPTH);
        amountIn = Math.mulDiv(amountIn, _FEE_UNIT, _FEE_UNIT - hop.fee, Math.Rounding.Ceil);
    }

    /// @dev The mean price of the last seconds as a square root, and the lower of the mean liquidity and that of now.
    function _mean(address pool, uint32 twapSec) private view returns (uint256 root, uint256 liquidity) {
        uint32[] memory ago = new uint32[](2);
        ago[0] = twapSec;
        try IUniswapV3Pool(pool).observe(ago) returns (int56[] memory ticks, uint160[] memory perLiquidity) {
            unchecked {
                // Both are sums that may wrap around.
                int256 sum = int56(ticks[1] - ticks[0]);
                int256 mean = sum / int256(uint256(twapSec));
                if (sum < 0 && sum % int256(uint256(twapSec)) != 0) --mean;
                root = TickPrice.sqrtAt(mean);
                uint256 slow = uint160(perLiquidity[1] - perLiquidity[0]);
                liquidity = slow == 0 ? type(uint128).max : (uint256(twapSec) << 128) / slow;
            }
        } catch {
            revert RouteStale(pool, 0, twapSec);
        }
        liquidity = Math.min(liquidity, IUniswapV3Pool(pool).liquidity());
    }

    /* INTERNAL: PATHS */

    function _hops(bytes memory path) private pure returns (uint256 hops) {
        uint256 length = path.length;
        hops = length < _TOKEN ? 0 : (length - _TOKEN) / _HOP;
        if (hops == 0 || hops > _MAX_HOPS || length != _TOKEN + hops * _HOP) revert BadPath(length);
    }

    function _hop(bytes memory path, uint256 index) private view returns (Hop memory hop) {
        bytes32 first;
        bytes32 second;
        assembly ("memory-safe") {
            let start := add(add(path, 0x20), mul(index, 23))
            first := mload(start)
            second := mload(add(start, 23))
        }
        hop.tokenIn = address(bytes20(first));
        hop.fee = uint24(bytes3(first << 160));
        hop.tokenOut = address(bytes20(second));
        hop.zeroIn = hop.tokenIn < hop.tokenOut;
        (address token0, address token1) = hop.zeroIn ? (hop.tokenIn, hop.tokenOut) : (hop.tokenOut, hop.tokenIn);
        bytes32 salt = keccak256(abi.encode(token0, token1, hop.fee));
        hop.pool = address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", factory, salt, _POOL_CODE)))));
    }

    function _checkPool(Hop memory hop) private view {
        if (hop.pool.code.length == 0) revert NoPool(hop.tokenIn, hop.tokenOut, hop.fee);
    }
}
