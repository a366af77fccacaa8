// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IPaymentExtension
/// @notice What payers, payees and listers do rarely with the PaymentManager, at the PaymentManager's address. Its events and
/// errors are in {IPaymentManager}.
interface IPaymentExtension {
    /// @notice What a payer allows a controller, and what it has taken today of `dailyCap`. Without a limit `validUntil` is
    /// zero.
    struct LimitView {
        uint128 maxRateQ32;
        uint40 validUntil;
        uint88 dailyCap;
        uint88 spent;
    }

    /// @notice How a token is swapped for another.
    /// @param left How much may be swapped now; it grows by `maxPerSwap` an hour.
    struct RouteView {
        bytes path;
        uint16 slipBps;
        uint32 twapSec;
        uint16 minCardinality;
        uint128 maxPerSwap;
        uint128 left;
    }

    /// @notice Ends all flows and reserves of the caller in a token at once, at the same cost for any number of them. What is
    /// paid ahead is refunded. Each flow is closed later by its controller, which anyone can ask for; until then the payer
    /// cannot start anything new in this token.
    function revokeAll(uint8 token) external;

    /// @notice Adds to the caller's refund, from which everything is paid first.
    function deposit(uint8 token, uint128 amount) external;

    /// @notice Pays a part of the caller's refund to the caller.
    function withdrawDeposit(uint8 token, uint128 amount) external;

    /// @notice Chooses where the caller's money comes from when the refund is used up: 0 the allowance of the wallet,
    /// 1 Permit2, 2 nowhere.
    function setSource(uint8 token, uint8 source) external;

    /// @notice Bounds what a controller may newly take from the caller: up to which rate of the whole account it may raise
    /// flows, until when, and how much it may take a day for first windows, reserves and single charges.
    /// @param validUntil Zero takes the limit away.
    function setLimits(uint8 token, address controller, uint128 maxRateQ32, uint40 validUntil, uint88 dailyCap) external;

    /// @notice Lets the caller's wallet pay for a payer until then, never more than this rate for the time since now. Only
    /// what keeps flows going is paid, never what starts them, so that the caller pays for time that has passed and not for
    /// what is refunded. A sponsor can be replaced by itself, by the payer, and by anyone when its time is over.
    function sponsor(address payer, uint8 token, uint128 maxRateQ32, uint40 until) external;

    /// @notice Lets anyone pay for the caller's flows in `settleToken` with the caller's `payToken`, at a price at most
    /// `maxSlipBps` above the mean price. Zero takes it back.
    function setAutoSwap(uint8 payToken, uint8 settleToken, uint16 maxSlipBps) external;

    /// @notice Fills the payer's prepay window like {pull}, and what is missing then with a swap of the payer's `payToken`.
    /// Anyone may call when the payer allows it.
    /// @return amountIn What the payer paid.
    /// @return amountOut What it bought.
    function pullSwap(address payer, uint8 payToken, uint8 settleToken)
        external
        returns (uint256 amountIn, uint256 amountOut);

    /// @notice Swaps `amountIn` of a credit and pays the result to the payee's payout address. Only the payout address or
    /// the node's signer, which names the price.
    /// @return amountOut What was paid.
    function withdrawSwapped(uint64 payee, uint8 tokenIn, uint8 tokenOut, uint128 amountIn, uint128 minOut)
        external
        returns (uint256 amountOut);

    /// @notice Gives this contract an allowance in Permit2. As with {permit}, one that fails is ignored when the allowance
    /// is there.
    function permit2(
        address owner,
        uint8 token,
        uint160 amount,
        uint48 expiration,
        uint48 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external;

    /// @notice Makes several calls in one transaction.
    function multicall(bytes[] calldata calls) external returns (bytes[] memory results);

    /// @notice Sets what else is known of a token.
    /// @param swaps Bit 1: it may be sold in swaps, bit 2: it may be bought.
    /// @param minWindowAmount What is worth a dollar, 0 if nobody says. A window is as long as that lasts, but not below the
    /// prepay window and not above a day.
    /// @param bountyCap The most that a pull of a nearly dry account earns; 0: nothing.
    function setTokenTerms(uint8 token, uint8 swaps, uint80 minWindowAmount, uint88 bountyCap) external;

    /// @notice Sets how a token is swapped for another.
    /// @param path See {IUniswapAdapter}; empty: no more. All its tokens are listed.
    /// @param slipBps How much dearer than the mean price a swap may be, at most 300.
    /// @param twapSec How many seconds the mean is of, 300 to 7,200.
    /// @param minCardinality How many observations a pool must remember.
    /// @param maxPerSwap The most that is sold at once, and in an hour.
    function setRoute(
        uint8 tokenIn,
        uint8 tokenOut,
        bytes calldata path,
        uint16 slipBps,
        uint32 twapSec,
        uint16 minCardinality,
        uint128 maxPerSwap
    ) external;

    /// @notice What a payer allows a controller.
    function limitOf(address payer, uint8 token, address controller) external view returns (LimitView memory);

    /// @notice Who pays for a payer, up to which rate and until when.
    function sponsorOf(address payer, uint8 token) external view returns (address by, uint128 maxRateQ32, uint40 until);

    /// @notice How a token is swapped for another.
    function routeOf(uint8 tokenIn, uint8 tokenOut) external view returns (RouteView memory);

    /// @notice How much dearer than the mean price the payer lets such swaps be; 0 when it allows none.
    function autoSwapOf(address payer, uint8 payToken, uint8 settleToken) external view returns (uint16 maxSlipBps);
}
