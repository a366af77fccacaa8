// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDrandVerifier} from "../src/interfaces/IDrandVerifier.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Test} from "forge-std/Test.sol";
import {VmSafe} from "forge-std/Vm.sol";

/// @title DrandVerifierTest
/// @notice The cases of protocol/testdata/vectors/drand.json, which Go gives, and the rounds of times.
contract DrandVerifierTest is Test {
    uint64 internal constant GENESIS = 1727521075;
    uint256 internal constant P = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;

    IDrandVerifier internal evmnet;
    IDrandVerifier internal test;
    string internal json;

    function setUp() public {
        json = vm.readFile("../protocol/testdata/vectors/drand.json");
        evmnet = _deploy(_evmnet(), GENESIS, 3);
        test = _deploy(abi.decode(vm.parseJsonBytes(json, ".key"), (uint256[4])), 1_700_000_000, 30);
    }

    function _evmnet() private pure returns (uint256[4] memory) {
        return [
            0x07e1d1d335df83fa98462005690372c643340060d205306a9aa8106b6bd0b382,
            0x0557ec32c2ad488e4d4f6008f89a346f18492092ccc0d594610de2732c8b808f,
            0x0095685ae3a85ba243747b1b2f426049010f6b73a0cf1d389351d5aaaa1047f6,
            0x297d3a4f9749b33eb2d904c9d9ebf17224150ddd7abd7567a9bec6c74480ee0b
        ];
    }

    function _code() private view returns (bytes memory) {
        if (vm.isContext(VmSafe.ForgeContext.Coverage)) return vm.getCode("DrandVerifier.sol:DrandVerifier");
        return vm.getCode("out/DrandVerifier.sol/DrandVerifier.json");
    }

    function _deploy(uint256[4] memory key, uint64 genesis, uint64 period) private returns (IDrandVerifier v) {
        bytes memory code = abi.encodePacked(_code(), abi.encode(key, genesis, period));
        assembly ("memory-safe") {
            v := create(0, add(code, 0x20), mload(code))
            if iszero(v) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    function deploy(uint256[4] calldata key, uint64 period) external {
        _deploy(key, GENESIS, period);
    }

    function _signature() private pure returns (uint256[2] memory) {
        return [
            0x01d65d6128f4b2df3d08de85543d8efe06b0281d0770246ae3672e8ddd3efda0,
            0x269373123458f0b5c0073eeed1c816a06809e127421513e34ee07df6987910b3
        ];
    }

    function test_vectors_areJudgedAsInGo() public {
        uint256 valid;
        uint256 n;
        for (;; ++n) {
            string memory path = string.concat(".cases[", vm.toString(n), "]");
            if (!vm.keyExistsJson(json, path)) break;
            uint64 round = uint64(vm.parseJsonUint(json, string.concat(path, ".round")));
            uint256[2] memory sig = abi.decode(vm.parseJsonBytes(json, string.concat(path, ".signature")), (uint256[2]));
            IDrandVerifier v = vm.parseJsonBool(json, string.concat(path, ".evmnet")) ? evmnet : test;
            if (vm.parseJsonBool(json, string.concat(path, ".valid"))) {
                assertEq(v.verify(round, sig), vm.parseJsonBytes32(json, string.concat(path, ".seed")), path);
                ++valid;
            } else {
                vm.expectRevert(abi.encodeWithSelector(IDrandVerifier.BeaconInvalid.selector, round));
                v.verify(round, sig);
            }
        }
        assertEq(valid, 13);
        assertEq(n, 25);
    }

    function testFuzz_verify_refusesAnyOtherPoint(uint256 x, uint256 y, uint64 round) public {
        uint256[2] memory sig = _signature();
        vm.assume(x != sig[0] || y != sig[1] || round != 9337227);
        vm.expectRevert(abi.encodeWithSelector(IDrandVerifier.BeaconInvalid.selector, round));
        evmnet.verify(round, [x, y]);
    }

    function testFuzz_hashToCurve_isOnTheCurve(uint64 round) public view {
        (uint256 x, uint256 y) = evmnet.hashToCurve(round);
        assertLt(x, P);
        assertLt(y, P);
        assertEq(mulmod(y, y, P), addmod(mulmod(mulmod(x, x, P), x, P), 3, P));
    }

    function test_roundAt_isTheFirstNotBefore() public {
        assertEq(evmnet.roundAt(GENESIS), 1);
        assertEq(evmnet.roundAt(GENESIS + 1), 2);
        assertEq(evmnet.roundAt(GENESIS + 3), 2);
        assertEq(evmnet.roundAt(GENESIS + 4), 3);
        vm.expectRevert(abi.encodeWithSelector(IDrandVerifier.BeforeGenesis.selector, GENESIS - 1, GENESIS));
        evmnet.roundAt(GENESIS - 1);
    }

    function testFuzz_roundAt_isWithinAPeriod(uint40 time) public view {
        vm.assume(time >= GENESIS);
        uint256 published = GENESIS + (uint256(evmnet.roundAt(time)) - 1) * 3;
        assertGe(published, time);
        assertLt(published, uint256(time) + 3);
    }

    function test_verifyAt_takesTheRoundOfTheTime() public {
        uint256 time = GENESIS + uint256(9337226) * 3;
        (uint64 round, bytes32 randomness) = evmnet.verifyAt(time - 2, _signature());
        assertEq(round, 9337227);
        assertEq(randomness, sha256(abi.encode(_signature())));
        vm.expectRevert(abi.encodeWithSelector(IDrandVerifier.BeaconInvalid.selector, 9337228));
        evmnet.verifyAt(time + 1, _signature());
    }

    function test_network_isWhatWasGiven() public view {
        (uint256[4] memory key, uint64 genesis, uint64 period) = evmnet.network();
        assertEq(abi.encode(key), abi.encode(_evmnet()));
        assertEq(genesis, GENESIS);
        assertEq(period, 3);
    }

    function test_constructor_refusesNoKeyAndNoPeriod() public {
        uint256[4] memory none;
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        this.deploy(none, 3);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        this.deploy(_evmnet(), 0);
    }
}
