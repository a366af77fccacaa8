// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IUniswapV3Pool} from "../../src/interfaces/IUniswapV3Pool.sol";
import {Suite} from "./Suite.sol";
import {TestToken} from "./TestToken.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

interface IPositions {
    struct MintParams {
        address token0;
        address token1;
        uint24 fee;
        int24 tickLower;
        int24 tickUpper;
        uint256 amount0Desired;
        uint256 amount1Desired;
        uint256 amount0Min;
        uint256 amount1Min;
        address recipient;
        uint256 deadline;
    }

    struct DecreaseParams {
        uint256 tokenId;
        uint128 liquidity;
        uint256 amount0Min;
        uint256 amount1Min;
        uint256 deadline;
    }

    function createAndInitializePoolIfNecessary(address token0, address token1, uint24 fee, uint160 root)
        external
        returns (address pool);

    function mint(MintParams calldata params)
        external
        returns (uint256 tokenId, uint128 liquidity, uint256 amount0, uint256 amount1);

    function decreaseLiquidity(DecreaseParams calldata params) external returns (uint256 amount0, uint256 amount1);
}

interface IRouter {
    struct ExactInputSingleParams {
        address tokenIn;
        address tokenOut;
        uint24 fee;
        address recipient;
        uint256 deadline;
        uint256 amountIn;
        uint256 amountOutMinimum;
        uint160 sqrtPriceLimitX96;
    }

    function exactInputSingle(ExactInputSingleParams calldata params) external returns (uint256 amountOut);
}

interface IPool is IUniswapV3Pool {
    function increaseObservationCardinalityNext(uint16 next) external;
    function initialize(uint160 root) external;
}

interface IFactory {
    function createPool(address a, address b, uint24 fee) external returns (address);
    function getPool(address a, address b, uint24 fee) external view returns (address);
}

/// @title UniswapSuite
/// @notice The suite with Uniswap V3 as it is published: factory, position manager, router; pools of three tokens with real
/// liquidity and half an hour of history.
abstract contract UniswapSuite is Suite {
    uint24 internal constant LOW = 500;
    uint24 internal constant MEDIUM = 3000;
    uint24 internal constant HIGH = 10_000;
    uint8 internal constant USD = 2;
    uint8 internal constant WETH = 3;
    uint8 internal constant DAI = 4;

    IFactory internal factory;
    IPositions internal positions;
    IRouter internal router;
    TestToken internal usd;
    TestToken internal weth;
    TestToken internal dai;
    IPool internal alephUsd;
    IPool internal alephWeth;
    IPool internal wethUsd;
    IPool internal daiUsd;
    address internal trader = makeAddr("trader");

    function setUp() public virtual override {
        super.setUp();
        usd = new TestToken("USD", 6);
        weth = new TestToken("WETH", 18);
        dai = new TestToken("DAI", 18);
        assertEq(payments.listToken(address(usd)), USD);
        assertEq(payments.listToken(address(weth)), WETH);
        assertEq(payments.listToken(address(dai)), DAI);
        for (uint8 t = ALEPH; t <= DAI; ++t) {
            extension.setTokenTerms(t, 6, 0, 0);
            _rich(payments.tokenOf(t).erc20, address(this));
            _rich(payments.tokenOf(t).erc20, trader);
        }
        address zero = address(0);
        positions = IPositions(
            _deployPublished(
                "v3-periphery", "NonfungiblePositionManager", abi.encode(address(factory), address(weth), zero)
            )
        );
        router = IRouter(_deployPublished("v3-periphery", "SwapRouter", abi.encode(address(factory), address(weth))));
        // 0.05 USD for an ALEPH, 2,500 USD for a WETH, 1 USD for a DAI.
        alephUsd = _pool(address(token), 20_000_000 ether, address(usd), 1_000_000e6, MEDIUM);
        alephWeth = _pool(address(token), 50_000_000 ether, address(weth), 1_000 ether, HIGH);
        wethUsd = _pool(address(weth), 4_000 ether, address(usd), 10_000_000e6, LOW);
        daiUsd = _pool(address(dai), 10_000_000 ether, address(usd), 10_000_000e6, LOW);
        _history();
    }

    function _uniswap() internal virtual override returns (address) {
        if (address(factory) == address(0)) factory = IFactory(_deployPublished("v3-core", "UniswapV3Factory", ""));
        return address(factory);
    }

    /// @dev Deploys a contract with the code in Uniswap's packages.
    function _deployPublished(string memory package, string memory name, bytes memory args) internal returns (address) {
        string memory file =
            string.concat("node_modules/@uniswap/", package, "/artifacts/contracts/", name, ".sol/", name, ".json");
        bytes memory code = vm.parseJsonBytes(vm.readFile(file), ".bytecode");
        return _create(abi.encodePacked(code, args));
    }

    function _rich(address erc20, address who) internal {
        if (erc20 == address(token)) gateway.mint(token, who, 1e30);
        else TestToken(erc20).mint(who, 1e30);
    }

    /// @dev A pool with these amounts over all prices; their ratio is the price.
    function _pool(address a, uint256 amountA, address b, uint256 amountB, uint24 fee) internal returns (IPool pool) {
        if (a > b) (a, b, amountA, amountB) = (b, a, amountB, amountA);
        uint160 root = uint160(Math.sqrt(Math.mulDiv(amountB, 1 << 192, amountA)));
        pool = IPool(positions.createAndInitializePoolIfNecessary(a, b, fee, root));
        pool.increaseObservationCardinalityNext(200);
        IERC20(a).approve(address(positions), type(uint256).max);
        IERC20(b).approve(address(positions), type(uint256).max);
        int24 end = 887_200 - 887_200 % int24(fee == LOW ? int24(10) : fee == MEDIUM ? int24(60) : int24(200));
        positions.mint(
            IPositions.MintParams(a, b, fee, -end, end, amountA, amountB, 0, 0, address(this), type(uint256).max)
        );
    }

    /// @dev A trade in each pool that moves its price by a few ticks, so that it begins to remember, and an hour.
    function _history() internal {
        skip(60);
        _trade(address(usd), address(token), MEDIUM, 500e6);
        _trade(address(weth), address(token), HIGH, 0.5 ether);
        _trade(address(usd), address(weth), LOW, 5_000e6);
        _trade(address(usd), address(dai), LOW, 5_000e6);
        skip(1 hours);
    }

    /// @dev The trader swaps through Uniswap's own router.
    function _trade(address tokenIn, address tokenOut, uint24 fee, uint256 amountIn) internal returns (uint256) {
        vm.startPrank(trader);
        IERC20(tokenIn).approve(address(router), amountIn);
        uint256 out = router.exactInputSingle(
            IRouter.ExactInputSingleParams(tokenIn, tokenOut, fee, trader, type(uint256).max, amountIn, 0, 0)
        );
        vm.stopPrank();
        return out;
    }

    function _path(address a, uint24 fee, address b) internal pure returns (bytes memory) {
        return abi.encodePacked(a, fee, b);
    }

    /// @dev A payer with 100 ALEPH and as many dollars, which lets the contract swap those.
    function _swapper(uint256 dollars, uint16 slipBps) internal returns (address poor) {
        poor = makeAddr("poor");
        usd.mint(poor, dollars);
        vm.startPrank(poor);
        usd.approve(address(payments), type(uint256).max);
        token.approve(address(payments), type(uint256).max);
        extension.setAutoSwap(USD, ALEPH, slipBps);
        vm.stopPrank();
        gateway.mint(token, poor, 100 ether);
    }
}
